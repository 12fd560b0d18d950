"""Which versions of a model to serve, and what to do next about it: the rules of TensorFlow Serving, as pure functions.

After its file_system_storage_path_source.cc (version policies) and availability_preserving_policy.cc.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from tensorflow_serving.config import file_system_storage_path_source_pb2

Policy: Any = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy


class State(IntEnum):
    """Numbers as in GetModelStatusResponse."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class Snapshot:
    """A version as the next step is chosen from it. `wanted`: the policy asks for it."""

    number: int
    state: State
    wanted: bool


def numbered(children: Iterable[str]) -> dict[int, str]:
    """Version number -> folder name, of the names that are numbers."""
    return {int(child): child for child in sorted(children) if child.isascii() and child.isdigit()}


def wanted_versions(policy: Any, children: Mapping[int, str]) -> set[int]:
    """The versions that a policy serves out of the folders that exist; by default the latest."""
    match policy.WhichOneof("policy_choice"):
        case "all":
            return set(children)
        case "specific":
            return set(policy.specific.versions) & set(children)
        case _:
            return set(sorted(children)[-max(policy.latest.num_versions, 1) :])


def next_step(versions: Iterable[Snapshot]) -> tuple[Literal["load", "unload"], int] | None:
    """What to do next so that a wanted version becomes available before an unwanted one goes."""
    versions = list(versions)
    leaving = [v.number for v in versions if not v.wanted and v.state == State.AVAILABLE]
    wanted = [v for v in versions if v.wanted]
    serving = any(v.state == State.AVAILABLE for v in wanted)
    if leaving and (not wanted or serving or len(leaving) > 1):
        return "unload", min(leaving)
    new = [v.number for v in wanted if v.state == State.START]
    return ("load", max(new)) if new else None
