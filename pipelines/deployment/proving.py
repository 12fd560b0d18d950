"""Prove a version in a throw-away model server before a real one loads it: what it must do, it does there.

The server is the one that `photoproof serve` would choose, so a version that ends the server ends this one alone.
"""

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
from pipelines.deployment.models_config import Served, config_of, folders_of, write_config
from pipelines.registry.versions import MODEL
from pipelines.workspace.places import Workspace
from training.saved_model.assets import golden_pairs, golden_pictures
from training.saved_model.golden import TOLERANCE
from training.stage.errors import BadInput

CALLS = 10
"""Verdicts whose median time is compared with the bound."""

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


def prove(workspace: Workspace, folder: Path, version: int, latency_ms: float) -> None:
    """Serve the SavedModel `folder` in a server of its own, beside it, and see that it holds its promises.

    `latency_ms` is the longest that a verdict may take in the median. Afterwards the folder is where it was.
    Raises NotProven.
    """
    scratch = Workspace(folder.parent / "proving")
    served = folders_of(scratch) / str(version)
    served.parent.mkdir(parents=True)
    folder.rename(served)
    try:
        write_config(config_of(scratch), Served(frozenset({version}), {"stable": version}), served.parent)
        with running_server(scratch) as server:
            check(server.grpc, served, latency_ms)
    except (ServerFailed, NotProven) as error:
        log = _keep_log(scratch, workspace, version)
        reason = str(error).split(" (all: ")[0]
        raise NotProven(f"version {version} fails in a model server of its own: {reason}{log}") from None
    finally:
        served.rename(folder)
        shutil.rmtree(scratch.root, ignore_errors=True)


def check(server: str, folder: Path, latency_ms: float) -> None:
    """Hold the server that serves `folder` as `stable` to the folder's promises. Raises NotProven."""
    golden = golden_pairs(folder)
    transport = connect(server_at(server))
    try:
        with Verifier(server, timeout=CALL_SECONDS) as verifier:
            missing = verifier.status().missing
        if missing:
            raise NotProven("it is not a Photoproof model: " + "; ".join(missing))
        if golden:
            _check_scores(transport, golden)
            _check_broken_pictures(transport, golden_pictures(golden[0])[1])
            _check_latency(transport, golden[0], latency_ms)
    except (CallFailed, PhotoproofError) as error:
        raise NotProven(f"it does not answer: {' '.join(str(error).split())[:300]}") from None
    finally:
        transport.close()


def golden_pair(folder: Path) -> GoldenPair | None:
    """The first golden pair of a SavedModel that the client sends unchanged; None where it has none."""
    try:
        pairs = golden_pairs(folder)
    except BadInput:
        return None
    for pair in pairs:
        original, photo = golden_pictures(pair)
        try:
            prepared = prepare(original), prepare(photo)
        except InvalidImage:
            continue
        unchanged = prepared[0].image_bytes == original and prepared[1].image_bytes == photo
        if unchanged and copy_reason(*prepared) is None:
            return GoldenPair(original, photo, pair["similarity"], pair["probability"])
    return None


def _check_scores(transport: Transport, golden: list[dict[str, Any]]) -> None:
    measured = _predict(transport, "verify", _pictures(golden))
    if not measured["decoded"].all():
        raise NotProven("it does not decode the pictures of its own golden pairs")
    for name in ("similarity", "distance", "probability"):
        deviations = np.abs(measured[name] - [pair[name] for pair in golden])
        if not deviations.max() <= TOLERANCE:
            worst = int(deviations.argmax())
            raise NotProven(
                f"it does not reproduce its golden pair {worst + 1} of {len(golden)}: {name} "
                f"{measured[name][worst]:.6f}, evaluation measured {golden[worst][name]:.6f}"
            )


def _check_broken_pictures(transport: Transport, good: bytes) -> None:
    broken = [b"", good[: len(good) // 2][:200], b"not a picture", good[:30] + bytes(200)]
    alone = _predict(transport, "encode", {"image_bytes": [good]})
    mixed = _predict(transport, "encode", {"image_bytes": [*broken, good, *broken]})
    position = len(broken)
    if np.delete(mixed["decoded"], position).any():
        raise NotProven("it takes broken pictures for decoded ones")
    if not mixed["decoded"][position] or np.abs(mixed["embedding"][position] - alone["embedding"][0]).max() > TOLERANCE:
        raise NotProven("broken pictures in a batch change the embedding of a good one")


def _check_latency(transport: Transport, pair: dict[str, Any], latency_ms: float) -> None:
    milliseconds = []
    for _ in range(CALLS):
        started = time.perf_counter()
        _predict(transport, "verify", _pictures([pair]))
        milliseconds.append(1000 * (time.perf_counter() - started))
    median = statistics.median(milliseconds)
    if median > latency_ms:
        raise NotProven(
            f"a verdict takes {median:.0f} ms in the median, more than {latency_ms:g} (PHOTOPROOF_LATENCY_MS)"
        )


def _pictures(pairs: list[dict[str, Any]]) -> dict[str, list[bytes] | np.ndarray]:
    originals, photos = zip(*map(golden_pictures, pairs), strict=True)
    return {"original_bytes": list(originals), "photo_bytes": list(photos)}


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
