"""The DVC remote `store` in an object store: a real S3 protocol on loopback, credentials from the environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from pipelines.data import history, versioning
from pipelines.removal.forget import forget
from pipelines.removal.gc import collect
from pipelines.workspace.places import Workspace
from training.dataset.manifest import SCHEMA, read_manifest, write_manifest

pytestmark = pytest.mark.slow
PICTURES = 80
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server with the bucket `company`; its credentials are in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        running = ThreadedMotoServer("127.0.0.1", 0)
        running.start()
        host, port = running.get_host_and_port()
        yield f"http://{host}:{port}"
        running.stop()


@pytest.fixture(scope="module")
def bucket(server: str) -> Callable[[], dict[str, object]]:
    """What the bucket holds now: key -> when it was written."""
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="company")

    def contents() -> dict[str, object]:
        found = client.get_paginator("list_objects_v2").paginate(Bucket="company")
        return {one["Key"]: one["LastModified"] for page in found for one in page.get("Contents", ())}

    return contents


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, workspace_maker: Callable[..., Workspace], server: str) -> Workspace:
    """A workspace whose `store` is the bucket, with a committed version of 80 pictures that is not pushed yet."""
    workspace = workspace_maker(tmp_path_factory.mktemp("s3") / "workspace")
    config = f"['remote \"store\"']\n    url = s3://company/photoproof\n    endpointurl = {server}\n"
    with (workspace.root / ".dvc/config").open("a") as file:
        file.write(config)
    (workspace.data / "originals").mkdir(parents=True)
    rows = []
    for number in range(PICTURES):
        (workspace.data / f"originals/p{number}.jpg").write_text(f"picture {number}")
        named = {"role": "original", "picture_id": f"p{number}", "product_id": f"p{number}", "sha256": f"{number}"}
        rows.append(
            dict.fromkeys(SCHEMA.names) | named | {"name": "P", "category": "", "path": f"originals/p{number}.jpg"}
        )
    write_manifest(pa.Table.from_pylist(rows, SCHEMA), workspace.data / "manifest.parquet")
    version = versioning.add_data(workspace)
    subprocess.run(["git", "add", ".dvc/config"], cwd=workspace.root, check=True)
    history.commit(workspace, version)
    return workspace


def cut_off(workspace: Workspace, what: str, far_enough: Callable[[], bool]) -> None:
    """Run a function of pipelines.data.versioning on a workspace and kill its whole process group on the way."""
    program = "import sys; from pathlib import Path; from pipelines.data import versioning; "
    program += f"from pipelines.workspace.places import Workspace; versioning.{what}(Workspace(Path(sys.argv[1])))"
    command = [sys.executable, "-c", program, str(workspace.root)]
    child = subprocess.Popen(command, start_new_session=True)
    while child.poll() is None and not far_enough():
        time.sleep(0.002)
    assert child.poll() is None, f"{what} was not cut off: it was faster"
    os.killpg(child.pid, 9)
    child.wait()


@pytest.fixture(scope="module")
def before(made: Workspace, bucket: Callable[[], dict[str, object]]) -> dict[str, object]:
    """What the bucket held when a push was cut off; the push was then repeated."""
    cut_off(made, "push_data", lambda: len(bucket()) >= 5)
    found = bucket()
    versioning.push_data(made)
    return found


def test_a_push_that_was_cut_off_goes_on_and_sends_nothing_twice(
    before: dict[str, object], bucket: Callable[[], dict[str, object]]
) -> None:
    assert 5 <= len(before) < PICTURES
    assert not any(key.endswith(".dir") for key in before), "a version appears when all of its pictures are there"
    after = bucket()
    assert len(after) == PICTURES + 2
    assert {key: after[key] for key in before} == before


@pytest.mark.usefixtures("before")
def test_a_pull_that_was_cut_off_goes_on(made: Workspace, tmp_path: Path) -> None:
    clone = Workspace(tmp_path / "clone")
    subprocess.run(["git", "clone", "--quiet", str(made.root), str(clone.root)], check=True)
    (clone.root / ".dvc/config").write_text((made.root / ".dvc/config").read_text())
    cache = clone.root / ".dvc/cache/files/md5"
    cut_off(clone, "pull_data", lambda: sum(1 for _ in cache.glob("*/*")) >= 5)
    assert not (clone.data / "manifest.parquet").exists()
    versioning.pull_data(clone)
    assert len(list(clone.data.glob("originals/*.jpg"))) == PICTURES
    assert len(read_manifest(clone.data / "manifest.parquet")) == PICTURES


@pytest.mark.usefixtures("before")
def test_no_credential_is_written_anywhere(made: Workspace) -> None:
    for path in made.root.rglob("*"):
        if path.is_file():
            assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"].encode() not in path.read_bytes()


@pytest.mark.usefixtures("before")
def test_forgetting_and_collecting_reach_the_object_store(
    made: Workspace, bucket: Callable[[], dict[str, object]], tmp_path: Path
) -> None:
    shutil.copytree(made.root, tmp_path / "workspace")
    workspace = Workspace(tmp_path / "workspace")
    found = forget(workspace, "p7", really=True)
    assert (found.places, len(bucket())) == (("cache", "remote store"), PICTURES + 1)
    (workspace.data / "originals/p8.jpg").unlink()
    history.commit(workspace, versioning.add_data(workspace))
    remote = collect(workspace, 1, really=True).swept[1]
    assert (remote.place, remote.versions, remote.objects) == ("remote store", 1, 2)
    assert remote.bytes > 1000
    assert len(bucket()) == PICTURES - 1
