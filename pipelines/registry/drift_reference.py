"""reference.json: how the champion's data are distributed, which drift is measured against."""

import tempfile
from pathlib import Path

import yaml

from pipelines.data.versioning import DataVersion
from pipelines.registry import artifacts, evidence, versions
from pipelines.workspace.places import Workspace
from training.stage.places import REFERENCE
from training.validation import drift


def update_drift_reference(workspace: Workspace, data: DataVersion) -> str:
    """Bring reference.json to the champion's distributions, where the data is new; what was done, in a line.

    Data that passed validation once is not held against another champion. Raises RegistryUnreachable.
    """
    path = workspace.root / REFERENCE
    present = drift.read_reference(path)
    if path.is_file() and data.md5 == _validated_version(workspace):
        return f"drift: data that is validated, compared with {_name(present)}"
    champion = versions.versions_by_alias(workspace).get(versions.CHAMPION)
    wanted = drift.Reference(None, {})
    if champion is not None:
        version = versions.tags_of(workspace, champion).get("data_version")
        if version == present.data_version and present.distributions:
            wanted = present
        else:
            with tempfile.TemporaryDirectory() as folder:
                part = f"{artifacts.EVIDENCE}/{evidence.DISTRIBUTIONS}"
                kept = artifacts.download_part(workspace, champion, part, Path(folder))
                if kept is not None:
                    wanted = drift.read_reference(kept)
    if wanted != present or not path.is_file():
        drift.write_reference(wanted, path)
    if champion is None:
        return "drift: no champion yet to compare with"
    if not wanted.distributions:
        return f"drift: version {champion}, the champion, keeps no distributions of its data: nothing to compare with"
    return f"drift: to be compared with {_name(wanted)}, of version {champion}, the champion"


def _validated_version(workspace: Workspace) -> str | None:
    """The data version that the validate stage last passed on, by dvc.lock."""
    try:
        stage = yaml.safe_load((workspace.root / "dvc.lock").read_text())["stages"]["validate"]
        md5 = next(dependency["md5"] for dependency in stage["deps"] if dependency["path"] == "data")
    except (FileNotFoundError, KeyError, StopIteration, TypeError):
        return None
    return str(md5).removesuffix(".dir")


def _name(reference: drift.Reference) -> str:
    return f"data version {reference.data_version[:12]}" if reference.data_version else "nothing: there was no champion"
