"""Where DVC keeps the bytes of data versions: the workspace's cache and every remote that is configured."""

import contextlib
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.db import HashFileDB, get_index
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError
from dvc_objects.fs.local import LocalFileSystem

from pipelines.data.versioning import VersioningFailed
from pipelines.workspace.places import Workspace
from training.stage.places import MANIFEST

CACHE = "cache"
DELETED_AT_ONCE = 1000
PIECE = 1_000_000


@dataclass(frozen=True)
class Store:
    """The cache, or a remote, by its name."""

    name: str
    odb: HashFileDB
    own: bool
    """Nobody but this workspace keeps objects here."""

    def listing(self) -> dict[str, int]:
        """Every object that is here, with its bytes. Raises VersioningFailed where the store can't be reached."""
        with self._told():
            found = self._local() if isinstance(self.odb.fs, LocalFileSystem) else self._remote()
            sizes = {}
            for path, size in found:
                with contextlib.suppress(ValueError):  # a file that is no object
                    sizes[self.odb.path_to_oid(path)] = size
            return sizes

    def version(self, oid: str) -> dict[str, str]:
        """Path -> object of a version of data/; empty where this is none, as a stage's output is."""
        entries = self.entries(oid) if oid.endswith(".dir") else None
        return entries if entries and MANIFEST in entries else {}

    def entries(self, oid: str) -> dict[str, str] | None:
        """Path -> object of a ".dir"; None where this is none that can be read."""
        try:
            with self._told(ObjectFormatError):
                tree = Tree.load(self.odb, HashInfo("md5", oid))
        except (ObjectFormatError, FileNotFoundError):
            return None
        return {entry["relpath"]: entry["md5"] for entry in tree.as_list()}

    def manifest_of(self, oid: str) -> str | None:
        """The object that is the manifest of a version; None where the version is not here.

        Its list of files, 100 bytes a picture, is read piece by piece; DVC writes its keys in this order, always.
        """
        wanted, tail = re.compile(rb'"md5": "(\w{32})", "relpath": "%b"' % re.escape(MANIFEST).encode()), b""
        try:
            with self._told(), self.odb.fs.open(self.odb.oid_to_path(oid), "rb") as file:
                while piece := file.read(PIECE):
                    if found := wanted.search(tail + piece):
                        return found[1].decode()
                    tail = piece[-200:]
        except FileNotFoundError:
            pass
        return None

    def manifest(self, oid: str) -> pa.Table | None:
        """A manifest.parquet; None where it is not here."""
        found = self.read(oid)
        return None if found is None else pq.read_table(pa.BufferReader(found))

    def read(self, oid: str) -> bytes | None:
        """An object's bytes; None where it is not here."""
        try:
            with self._told(), self.odb.fs.open(self.odb.oid_to_path(oid), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def put(self, objects: dict[str, bytes]) -> None:
        """Add objects, those that others name first (in the order given); one that is here is the same."""
        with self._told(), tempfile.TemporaryDirectory() as folder:
            for oid, content in objects.items():
                path = Path(folder, oid)
                path.write_bytes(content)
                self.odb.add(os.fspath(path), LocalFileSystem(), oid)

    def delete(self, oids: Iterable[str]) -> int:
        """Delete those of the objects that are here, versions before what they name; how many."""
        paths = [self.odb.oid_to_path(oid) for oid in sorted(oids, key=lambda oid: (not oid.endswith(".dir"), oid))]
        gone = 0
        with self._told():
            for start in range(0, len(paths), DELETED_AT_ONCE):
                some = paths[start : start + DELETED_AT_ONCE]
                here = [path for path, there in zip(some, self.odb.fs.exists(some), strict=True) if there]
                if here:
                    self.odb.fs.remove(here)
                gone += len(here)
            if gone:
                get_index(self.odb).clear()  # else DVC goes on to believe that they are in the remote
        return gone

    def _local(self) -> Iterator[tuple[str, int]]:
        for folder, _, names in os.walk(self.odb.path):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    yield path, os.stat(path).st_size

    def _remote(self) -> Iterator[tuple[str, int]]:
        found: Any = self.odb.fs.fs.find(self.odb.path, detail=True)
        yield from ((path, info["size"]) for path, info in found.items())

    @contextlib.contextmanager
    def _told(self, *through: type[Exception]) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, *through):
            raise
        except Exception as error:  # each kind of remote raises its own
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise VersioningFailed(f"the DVC {self.name} can't be used: {said}") from error


def forgotten_in(listing: Iterable[str], ledger: Collection[str]) -> set[str]:
    """What of a store is forgotten: objects, and what a push that was cut off has left beside where they belong."""
    folders = {oid[:2] for oid in ledger}
    return {oid for oid in listing if oid in ledger or (oid.endswith(".tmp") and oid[:2] in folders)}


@contextlib.contextmanager
def stores(workspace: Workspace) -> Iterator[list[Store]]:
    """The cache, then every remote of DVC's configuration. Raises VersioningFailed where one is not set up rightly."""
    with Repo(os.fspath(workspace.root)) as repo:
        cache = repo.cache.local
        found = [Store(CACHE, cache, Path(cache.path).resolve().is_relative_to(workspace.root.resolve()))]
        for name in repo.config["remote"]:
            try:
                found.append(Store(f"remote {name}", repo.cloud.get_remote_odb(name, "data"), False))
            except DvcException as error:
                raise VersioningFailed(f"the DVC remote {name}: {error}") from error
        yield found


def stage_outputs(workspace: Workspace, cache: Store) -> set[str]:
    """What stages of dvc.yaml have ever put into the cache: all that DVC's run cache names, and dvc.lock."""
    files = [path for path in Path(cache.odb.path).parents[1].glob("runs/*/*/*") if path.is_file()]
    return _outputs([yaml.safe_load(path.read_text()) or {} for path in files], cache) | locked_outputs(
        workspace, cache
    )


def locked_outputs(workspace: Workspace, cache: Store) -> set[str]:
    """The outputs of stages that dvc.lock names."""
    lock = workspace.root / "dvc.lock"
    said = yaml.safe_load(lock.read_text()) if lock.is_file() else None
    return _outputs((said or {}).get("stages", {}).values(), cache)


def _outputs(runs: Iterable[dict[str, Any]], cache: Store) -> set[str]:
    found: set[str] = set()
    for out in (out for run in runs for out in run.get("outs") or ()):
        if (oid := out.get("md5")) and oid not in found:
            found.add(oid)
            if oid.endswith(".dir"):
                found |= set((cache.entries(oid) or {}).values())
    return found


def as_version(entries: dict[str, str]) -> tuple[str, bytes]:
    """The name and the bytes of the ".dir" that DVC makes of such a folder."""
    tree = Tree.from_list([{"md5": oid, "relpath": path} for path, oid in entries.items()])
    tree.digest()
    assert tree.oid, "digest names it"
    return tree.oid, tree.as_bytes()
