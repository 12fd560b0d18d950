"""A Dask cluster of two worker processes does what this machine does, with one of them killed on the way."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster
from PIL import Image

from training.dataset import workers
from training.dataset.workers import MOST_BYTES, chunked
from training.evaluation.embedding import embed
from training.model.autoencoder import build
from training.stage.errors import BadInput
from training.stage.fingerprints import PACKAGE
from training.stage.params import Train, Workers
from training.validation.measure import measure_all

PICTURES = 1200


def local_cluster(count: int) -> Any:
    """Worker processes on this machine."""
    quiet: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    return LocalCluster(n_workers=count, threads_per_worker=1, host="127.0.0.1", **quiet)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with local_cluster(2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.jpg")
    paths = sorted(folder.iterdir())
    paths[700].write_bytes(b"broken")
    return [*paths, folder / "missing.jpg"]


class KillsOnTheWay(list[Path]):
    """Paths of which the last is read only once a worker with work, done and to do, was killed."""

    def __init__(self, paths: Sequence[Path], cluster: Any):
        super().__init__(paths)
        self.cluster = cluster
        self.killed = False

    def __iter__(self) -> Iterator[Path]:
        *first, last = super().__iter__()
        yield from first
        kill_one_at_work(self.cluster)
        self.killed = True
        yield last


def kill_one_at_work(cluster: Any) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for worker in list(cluster.scheduler.workers.values()):
            if worker.processing and worker.has_what:
                os.kill(worker.pid, signal.SIGKILL)
                return
        time.sleep(0.01)
    raise AssertionError("no worker had work done and work to do")


@pytest.mark.slow
def test_pictures_measured_on_dask_are_as_measured_here_though_a_worker_is_killed(
    pictures: list[Path], cluster: Any
) -> None:
    paths = KillsOnTheWay(pictures, cluster)
    on_dask = measure_all(paths, 10_000, Workers(dask=cluster.scheduler_address))
    assert paths.killed
    assert on_dask.equals(measure_all(pictures, 10_000, Workers(processes=1)))
    assert on_dask["error"].to_pylist()[700] == "not a picture"
    assert on_dask["error"].to_pylist()[PICTURES] == "the file is missing"


@pytest.mark.slow
def test_pictures_embedded_on_dask_are_as_embedded_here_though_a_worker_is_killed(
    pictures: list[Path], cluster: Any
) -> None:
    encoder = build(Train(image_size=32, latent_size=16, decoded_size=16)).encoder
    paths = KillsOnTheWay(pictures[:400], cluster)
    on_dask = embed(encoder, paths, 8, Workers(dask=cluster.scheduler_address))
    assert paths.killed
    np.testing.assert_allclose(on_dask, embed(encoder, pictures[:400], 8), atol=1e-6)


@pytest.mark.parametrize("changed", [None, "model/images.py"])
def test_a_worker_with_other_code_in_whichever_folder_is_refused(changed: str | None, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "training", ignore=shutil.ignore_patterns("__pycache__"))
    if changed:
        with (tmp_path / "training" / changed).open("a") as file:
            file.write("# another commit's\n")
    refused = pytest.raises(BadInput, match=r"another training/, or other packages, .* install the same commit")
    with (
        local_cluster(0) as scheduler,
        worker_of(tmp_path, scheduler.scheduler_address),
        refused if changed else contextlib.nullcontext(),
        workers.open_pool(Workers(dask=scheduler.scheduler_address)) as pool,
    ):
        assert list(workers.in_order(pool, len, [[b"picture"]])) == [1]


@contextlib.contextmanager
def worker_of(checkout: Path, address: str) -> Iterator[None]:
    """A Dask worker that imports the training/ of a checkout."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    with (checkout / "log").open("wb") as log:
        worker = subprocess.Popen([*command, "--no-dashboard"], cwd=checkout, env=environment, stdout=log, stderr=log)
    try:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=120)
        yield
    finally:
        worker.terminate()
        worker.wait(30)


def test_a_scheduler_that_does_not_answer_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WAIT", 1)
    with pytest.raises(BadInput, match=r"workers\.dask: no Dask scheduler answers at tcp://127\.0\.0\.1:1 \("):
        measure_all([Path("one.jpg")], 10_000, Workers(dask="tcp://127.0.0.1:1"))


def test_a_scheduler_without_workers_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WAIT", 1)
    with local_cluster(0) as empty:
        address = empty.scheduler_address
        with pytest.raises(BadInput, match=f"has no workers: start some with `dask worker {address}`"):
            measure_all([Path("one.jpg")], 10_000, Workers(dask=address))


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadInput, match=r"Dask is not installed: pip install '.*\[dask\]'"):
        measure_all([Path("one.jpg")], 10_000, Workers(dask="tcp://127.0.0.1:1"))


def test_a_chunk_is_cut_by_number_and_by_bytes() -> None:
    large = b"x" * (MOST_BYTES + 1)
    assert [len(chunk) for chunk in chunked([b"1", b"2", b"3", large, b"4"], 2)] == [2, 1, 1, 1]
