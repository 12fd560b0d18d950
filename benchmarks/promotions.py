"""What a promotion is to a caller: from the alias moved in MLflow to the first verdict by the new version, under load.

Everything is real and a process of its own: MLflow's server, `photoproof deploy --watch` with its Prefect server, and
the model server, which callers ask 50 times a second. Two versions take turns as the champion.
"""

import base64
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np

from benchmarks.callers import PER_SECOND, Callers
from benchmarks.model import Pairs, export_model
from benchmarks.timing import Measurement
from pipelines.deployment.model_server import running_server
from pipelines.deployment.models_config import config_of, read_config
from pipelines.deployment.reconcile import deploy
from pipelines.registry import versions
from pipelines.registry.register import register_model
from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port
from pipelines.workspace.processes import ending_with_us
from pipelines.workspace.settings import Settings
from training.saved_model import assets, loading
from training.stage import tracking
from training.stage.params import Params

PROMOTIONS = 20
LOOK_SECONDS = 1
"""How often the watch looks, shorter than by default, so that 20 promotions are measured in minutes."""

PATIENCE = 180
GOLDEN = 4

COMMAND = [sys.executable, "-m", "photoproof"]


def rows(params: Params, pairs: Pairs, scratch: Path, promotions: int = PROMOTIONS) -> list[Measurement]:
    """So many promotions of two untrained models with these params: how long each took, and which calls failed."""
    workspace = _workspace(scratch / "workspace")
    with _environment(workspace), _mlflow(workspace):
        models = {
            _register(workspace, export_model(scratch / name, params, name), pairs[:GOLDEN]): name
            for name in ("benchmark", "benchmark-2")
        }
        first, second = models
        versions.promote(workspace, first)
        deploy(workspace, Settings(), say=lambda line: None)
        with running_server(workspace) as server, _watching(workspace) as watching:
            callers = Callers(server.grpc, pairs)
            try:
                took = []
                for turn in range(promotions):
                    version = first if turn % 2 else second
                    took.append(_promoted(workspace, version, models[version], callers, watching))
                    time.sleep(random.uniform(0, LOOK_SECONDS))  # an alias moves between two looks
            finally:
                callers.end()
    return _rows(took, callers)


def _promoted(
    workspace: Workspace, version: int, model_id: str, callers: Callers, watching: Callable[[], str]
) -> float:
    """Move the alias; seconds until a caller has a verdict by that version. Returns when deploy has cleaned up too."""
    versions.promote(workspace, version)
    moved, before = time.monotonic(), len(callers.calls)
    first = None
    while True:
        calls = callers.calls[before:]
        answered = (call.ended for call in calls if getattr(call.answer, "model_id", None) == model_id)
        first = first or next(answered, None)
        served = read_config(config_of(workspace))
        if first and served and served.versions == {version}:
            return first - moved
        if time.monotonic() - moved > PATIENCE:
            raise RuntimeError(f"version {version} was not served after {PATIENCE} s: {watching()}")
        watching()
        time.sleep(0.02)


def _rows(took: list[float], callers: Callers) -> list[Measurement]:
    new, fetched = took[0], np.array(took[1:] or took)
    look = f"`deploy --watch` looks every {LOOK_SECONDS} s"
    spread = f"{np.median(fetched):.1f} s (fastest {fetched.min():.1f}, slowest {fetched.max():.1f})"
    failed, calls = len(callers.failed), len(callers.calls)
    latency = np.percentile([1000 * call.seconds for call in callers.calls], [50, 99])
    rate = calls / (callers.calls[-1].ended - callers.calls[0].ended)
    asked = f"{len(took)} promotions, {PER_SECOND} calls a second"
    return [
        Measurement("promotion", f"alias moved → first verdict, a new version; {look}", f"{new:.1f} s", new, unit="s"),
        Measurement(
            "promotion",
            f"alias moved → first verdict, a version whose folder is there; {look}",
            spread,
            float(np.median(fetched)),
            unit="s",
        ),
        Measurement("promotion", f"calls failed during {asked}", f"{failed} of {calls:,}", failed, 0, unit="calls"),
        Measurement(
            "promotion",
            "a call meanwhile",
            f"p50 {latency[0]:.1f} ms, p99 {latency[1]:.1f} ms ({rate:.0f} a second)",
            float(latency[0]),
            unit="ms",
        ),
    ]


def _workspace(root: Path) -> Workspace:
    (root / ".photoproof").mkdir(parents=True)
    (root / "mlflow").mkdir()
    shutil.copy("mlflow/server.env", root / "mlflow")
    for name, text in {"dvc.yaml": "stages: {}\n", "params.yaml": "{}\n"}.items():
        (root / name).write_text(text)
    return Workspace(root.resolve())


def _register(workspace: Workspace, model: Path, pairs: Pairs) -> int:
    """A version of the model, with golden pairs as evaluation leaves them."""
    with loading.load(model) as loaded:
        columns = zip(("original_bytes", "photo_bytes"), zip(*pairs, strict=True), strict=True)
        scores = loaded.run("verify", {name: np.array(pictures, object) for name, pictures in columns})
    golden = [
        {"original_bytes": base64.b64encode(original).decode(), "photo_bytes": base64.b64encode(photo).decode()}
        | {name: float(scores[name][row]) for name in ("similarity", "distance", "probability")}
        for row, (original, photo) in enumerate(pairs)
    ]
    assets.write_golden(model / assets.GOLDEN, golden)
    folder = workspace.models / "saved_model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)
    trained = workspace.models / "autoencoder" / "run.json"
    if not trained.exists():
        trained.parent.mkdir(parents=True)
        with tracking.run(workspace.root, resume=False) as run_id:
            trained.write_text(json.dumps({"run_id": run_id}))
    return register_model(workspace).version


@contextlib.contextmanager
def _environment(workspace: Workspace) -> Iterator[None]:
    before = dict(os.environ)
    os.environ["PHOTOPROOF_WORKSPACE"] = str(workspace.root)
    os.environ["PHOTOPROOF_WATCH_SECONDS"] = str(LOOK_SECONDS)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    for name in ("PHOTOPROOF_SERVER", "PHOTOPROOF_SERVERS", "PHOTOPROOF_DATABASE_URL", "PREFECT_API_URL"):
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _mlflow(workspace: Workspace) -> Iterator[None]:
    port = free_port()
    with _process(workspace, "mlflow", "--port", str(port)) as output, httpx.Client() as client:
        url = f"http://127.0.0.1:{port}"
        _wait_until(lambda: _answers(client, f"{url}/health"), output)
        os.environ["MLFLOW_TRACKING_URI"] = url
        yield


@contextlib.contextmanager
def _watching(workspace: Workspace) -> Iterator[Callable[[], str]]:
    with _process(workspace, "deploy", "--watch") as output:
        _wait_until(lambda: "watching" in output(), output)
        yield output


@contextlib.contextmanager
def _process(workspace: Workspace, *words: str) -> Iterator[Callable[[], str]]:
    """A `photoproof` command for the block; its output so far, which raises RuntimeError once it has ended."""
    log = workspace.state / f"{words[0]}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(ending_with_us([*COMMAND, *words]), stdout=file, stderr=file, cwd=workspace.root)

    def output() -> str:
        text = log.read_text(errors="replace")[-1000:]
        if process.poll() is not None:
            raise RuntimeError(f"photoproof {' '.join(words)} ended: {text}")
        return text

    try:
        yield output
    finally:
        process.terminate()
        process.wait(60)


def _wait_until(condition: Callable[[], bool], output: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"it did not start within {PATIENCE} s: {output()}")
        output()
        time.sleep(0.1)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx.TransportError:
        return False
