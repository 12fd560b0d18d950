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
    """Nobody but this workspace keeps objects in it."""

    def list_objects(self) -> dict[str, int]:
        """Every object of the store, with its bytes. Raises VersioningFailed where the store can't be reached."""
        with self._naming_errors():
            files = self._list_local() if isinstance(self.odb.fs, LocalFileSystem) else self._list_remote()
            sizes = {}
            for path, size in files:
                with contextlib.suppress(ValueError):  # a file that is not an object
                    sizes[self.odb.path_to_oid(path)] = size
            return sizes

    def read_version(self, oid: str) -> dict[str, str]:
        """Path -> object of a version of data/; empty where this is something else, such as a stage's output."""
        entries = self.read_entries(oid) if oid.endswith(".dir") else None
        return entries if entries and MANIFEST in entries else {}

    def read_entries(self, oid: str) -> dict[str, str] | None:
        """Path -> object of a ".dir"; None where it is missing or can't be read."""
        try:
            with self._naming_errors(ObjectFormatError):
                tree = Tree.load(self.odb, HashInfo("md5", oid))
        except (ObjectFormatError, FileNotFoundError):
            return None
        return {entry["relpath"]: entry["md5"] for entry in tree.as_list()}

    def find_manifest(self, oid: str) -> str | None:
        """The object that is the manifest of a version; None where the store lacks the version.

        Its list of files, 100 bytes a picture, is read piece by piece; DVC always writes its keys in this order.
        """
        pattern, tail = re.compile(rb'"md5": "(\w{32})", "relpath": "%b"' % re.escape(MANIFEST).encode()), b""
        try:
            with self._naming_errors(), self.odb.fs.open(self.odb.oid_to_path(oid), "rb") as file:
                while piece := file.read(PIECE):
                    if match := pattern.search(tail + piece):
                        return match[1].decode()
                    tail = piece[-200:]
        except FileNotFoundError:
            pass
        return None

    def read_manifest(self, oid: str) -> pa.Table | None:
        """A manifest.parquet; None where the store lacks it."""
        content = self.read(oid)
        return None if content is None else pq.read_table(pa.BufferReader(content))

    def read(self, oid: str) -> bytes | None:
        """An object's bytes; None where the store lacks it."""
        try:
            with self._naming_errors(), self.odb.fs.open(self.odb.oid_to_path(oid), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def put(self, objects: dict[str, bytes]) -> None:
        """Add objects in the order given, which has those that others name first; what is present stays."""
        with self._naming_errors(), tempfile.TemporaryDirectory() as folder:
            for oid, content in objects.items():
                path = Path(folder, oid)
                path.write_bytes(content)
                self.odb.add(os.fspath(path), LocalFileSystem(), oid)

    def delete(self, oids: Iterable[str]) -> int:
        """Delete those of the objects that the store has, versions before what they name; how many."""
        paths = [self.odb.oid_to_path(oid) for oid in sorted(oids, key=lambda oid: (not oid.endswith(".dir"), oid))]
        deleted = 0
        with self._naming_errors():
            for start in range(0, len(paths), DELETED_AT_ONCE):
                chunk = paths[start : start + DELETED_AT_ONCE]
                present = [path for path, exists in zip(chunk, self.odb.fs.exists(chunk), strict=True) if exists]
                if present:
                    self.odb.fs.remove(present)
                deleted += len(present)
            if deleted:
                get_index(self.odb).clear()  # else DVC goes on to believe that they are in the remote
        return deleted

    def _list_local(self) -> Iterator[tuple[str, int]]:
        for folder, _, names in os.walk(self.odb.path):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    yield path, os.stat(path).st_size

    def _list_remote(self) -> Iterator[tuple[str, int]]:
        files: Any = self.odb.fs.fs.find(self.odb.path, detail=True)
        yield from ((path, info["size"]) for path, info in files.items())

    @contextlib.contextmanager
    def _naming_errors(self, *passed_on: type[Exception]) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, *passed_on):
            raise
        except Exception as error:  # each kind of remote raises its own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise VersioningFailed(f"the DVC {self.name} can't be used: {reason}") from error


def find_forgotten(objects: Iterable[str], ledger: Collection[str]) -> set[str]:
    """Those of a store's objects that are forgotten, and what a push that was cut off has left in their folders."""
    folders = {oid[:2] for oid in ledger}
    return {oid for oid in objects if oid in ledger or (oid.endswith(".tmp") and oid[:2] in folders)}


@contextlib.contextmanager
def opened_stores(workspace: Workspace) -> Iterator[list[Store]]:
    """The cache, then every remote of DVC's configuration. Raises VersioningFailed where one is misconfigured."""
    with Repo(os.fspath(workspace.root)) as repo:
        cache = repo.cache.local
        stores = [Store(CACHE, cache, Path(cache.path).resolve().is_relative_to(workspace.root.resolve()))]
        for name in repo.config["remote"]:
            try:
                stores.append(Store(f"remote {name}", repo.cloud.get_remote_odb(name, "data"), False))
            except DvcException as error:
                raise VersioningFailed(f"the DVC remote {name}: {error}") from error
        yield stores


def list_stage_outputs(workspace: Workspace, cache: Store) -> set[str]:
    """What stages of dvc.yaml have ever put into the cache: all that DVC's run cache names, and dvc.lock."""
    files = [path for path in Path(cache.odb.path).parents[1].glob("runs/*/*/*") if path.is_file()]
    runs = [yaml.safe_load(path.read_text()) or {} for path in files]
    return _outputs_of(runs, cache) | list_locked_outputs(workspace, cache)


def list_locked_outputs(workspace: Workspace, cache: Store) -> set[str]:
    """The outputs of stages that dvc.lock names."""
    path = workspace.root / "dvc.lock"
    lock = yaml.safe_load(path.read_text()) if path.is_file() else None
    return _outputs_of((lock or {}).get("stages", {}).values(), cache)


def _outputs_of(runs: Iterable[dict[str, Any]], cache: Store) -> set[str]:
    outputs: set[str] = set()
    for out in (out for run in runs for out in run.get("outs") or ()):
        if (oid := out.get("md5")) and oid not in outputs:
            outputs.add(oid)
            if oid.endswith(".dir"):
                outputs |= set((cache.read_entries(oid) or {}).values())
    return outputs


def build_version(entries: dict[str, str]) -> tuple[str, bytes]:
    """The name and the bytes of the ".dir" that DVC makes of a folder: path -> object."""
    tree = Tree.from_list([{"md5": oid, "relpath": path} for path, oid in entries.items()])
    tree.digest()
    assert tree.oid, "digest names it"
    return tree.oid, tree.as_bytes()
