"""Prove a version in a throw-away model server before a real one sees it: what it must do, it does there.

The server is the one that `photoproof serve` would choose, so a version that ends the server ends this one alone.
"""

import base64
import json
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from photoproof import InvalidImage, PhotoproofError, Verifier
from photoproof.pictures.identical import copy_reason
from photoproof.pictures.prepare import prepare
from photoproof.transport.address import server_at
from photoproof.transport.calls import CallFailed, Model, Predict, Predicted, Transport
from photoproof.transport.connect import connect
from pipelines.deployment.model_server import ServerFailed, running_server
from pipelines.deployment.models_config import Served, write_config
from pipelines.registry.versions import MODEL
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings

TOLERANCE = 1e-4
"""Of a golden pair's scores."""

CALLS = 10
"""Verdicts whose median time is held against the bound."""

CALL_SECONDS = 60


class NotProven(RuntimeError):
    """A version does not do what it must; the message says what, and where the server's log is."""

    exit_code = 1


@dataclass(frozen=True)
class GoldenPair:
    """Two pictures and the scores that evaluation measured of them."""

    original: bytes
    photo: bytes
    similarity: float
    probability: float


def prove(workspace: Workspace, folder: Path, version: int) -> None:
    """Serve the SavedModel `folder` in a server of its own, beside it, and see that it holds its promises.

    Afterwards the folder is where it was. Raises NotProven.
    """
    scratch = Workspace(folder.parent / "proving")
    place = scratch.serving / MODEL / str(version)
    place.parent.mkdir(parents=True)
    folder.rename(place)
    try:
        write_config(scratch.serving / "models.config", Served(frozenset({version}), {"stable": version}), place.parent)
        with running_server(scratch) as server:
            check(server.grpc, place)
    except (ServerFailed, NotProven) as error:
        log = _keep_log(scratch, workspace, version)
        said = str(error).split(" (all: ")[0]
        raise NotProven(f"version {version} fails in a model server of its own: {said}{log}") from None
    finally:
        place.rename(folder)
        shutil.rmtree(scratch.root, ignore_errors=True)


def check(server: str, folder: Path) -> None:
    """Hold the server that serves `folder` as `stable` to the folder's promises. Raises NotProven."""
    golden = json.loads((folder / "assets.extra" / "golden.json").read_text())["pairs"]
    transport = connect(server_at(server))
    try:
        with Verifier(server, timeout=CALL_SECONDS) as verifier:
            missing = verifier.status().missing
        if missing:
            raise NotProven("it is no Photoproof model: " + "; ".join(missing))
        if golden:
            _check_scores(transport, golden)
            _check_broken_pictures(transport, base64.b64decode(golden[0]["photo_bytes"]))
            _check_latency(transport, golden[0])
    except (CallFailed, PhotoproofError) as error:
        raise NotProven(f"it does not answer: {' '.join(str(error).split())[:300]}") from None
    finally:
        transport.close()


def golden_pair(folder: Path) -> GoldenPair | None:
    """The first golden pair of a SavedModel that the client sends as it is; None where there is none."""
    try:
        pairs = json.loads((folder / "assets.extra" / "golden.json").read_text())["pairs"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    for pair in pairs:
        original, photo = (base64.b64decode(pair[name]) for name in ("original_bytes", "photo_bytes"))
        try:
            sent = prepare(original), prepare(photo)
        except InvalidImage:
            continue
        as_they_are = sent[0].image_bytes == original and sent[1].image_bytes == photo
        if as_they_are and copy_reason(*sent) is None:
            return GoldenPair(original, photo, pair["similarity"], pair["probability"])
    return None


def _check_scores(transport: Transport, golden: list[dict[str, Any]]) -> None:
    found = _predict(transport, "verify", _pictures(golden))
    if not found["decoded"].all():
        raise NotProven("it does not decode the pictures of its own golden pairs")
    for name in ("similarity", "distance", "probability"):
        off = np.abs(found[name] - [pair[name] for pair in golden])
        if not off.max() <= TOLERANCE:
            worst = int(off.argmax())
            raise NotProven(
                f"it does not reproduce its golden pair {worst + 1} of {len(golden)}: {name} "
                f"{found[name][worst]:.6f}, evaluation measured {golden[worst][name]:.6f}"
            )


def _check_broken_pictures(transport: Transport, good: bytes) -> None:
    broken = [b"", good[: len(good) // 2][:200], b"no picture", good[:30] + bytes(200)]
    alone = _predict(transport, "encode", {"image_bytes": [good]})
    mixed = _predict(transport, "encode", {"image_bytes": [*broken, good, *broken]})
    at = len(broken)
    if np.delete(mixed["decoded"], at).any():
        raise NotProven("it takes broken pictures for decoded ones")
    if not mixed["decoded"][at] or np.abs(mixed["embedding"][at] - alone["embedding"][0]).max() > TOLERANCE:
        raise NotProven("broken pictures in a batch change what it says of a good one")


def _check_latency(transport: Transport, pair: dict[str, Any]) -> None:
    bound, took = Settings().latency_ms, []
    for _ in range(CALLS):
        started = time.perf_counter()
        _predict(transport, "verify", _pictures([pair]))
        took.append(1000 * (time.perf_counter() - started))
    if statistics.median(took) > bound:
        raise NotProven(
            f"a verdict takes {statistics.median(took):.0f} ms in the median, more than {bound:g} "
            "(PHOTOPROOF_LATENCY_MS)"
        )


def _pictures(pairs: list[dict[str, Any]]) -> dict[str, list[bytes] | np.ndarray]:
    return {name: [base64.b64decode(one[name]) for one in pairs] for name in ("original_bytes", "photo_bytes")}


def _predict(transport: Transport, signature: str, inputs: dict[str, list[bytes] | np.ndarray]) -> Any:
    answer = transport.send(Predict(Model(MODEL, label="stable"), signature, inputs), CALL_SECONDS)
    assert isinstance(answer, Predicted)
    return answer.outputs


def _keep_log(scratch: Workspace, workspace: Workspace, version: int) -> str:
    logs = sorted(scratch.logs.glob("*.log"))
    if not logs:
        return ""
    workspace.logs.mkdir(parents=True, exist_ok=True)
    kept = workspace.logs / f"prove-{version}.log"
    shutil.copyfile(logs[-1], kept)
    return f" (its log: {kept})"
