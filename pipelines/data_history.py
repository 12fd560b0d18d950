"""Versions of the data over time: git's history of data.dvc, and what each version holds, read through DVC."""

import os
import subprocess
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import pyarrow.parquet as pq
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError

from pipelines import forgotten, versions
from pipelines.ingest import MANIFEST
from pipelines.workspace import Workspace
from training.errors import BadInput

TAG = "data-"
"""Begins the git tag of a data version; 12 digits of its md5 follow."""
COLUMNS = ["role", "picture_id", "product_id", "sha256"]
"""Of a manifest, all that a difference looks at."""
_FIELDS = "%H%x00%cI%x00%s%x00"


@dataclass(frozen=True)
class Version:
    """A commit that changed data.dvc."""

    commit: str
    at: datetime
    md5: str
    files: int
    bytes: int
    message: str

    def __str__(self) -> str:
        return f"{self.md5[:12]}  {self.at:%Y-%m-%d %H:%M}  {self.message}"


@dataclass(frozen=True)
class Difference:
    """What changed from one version to another: picture ids, sorted, by what happened to them."""

    new_products: tuple[str, ...]
    lost_products: tuple[str, ...]
    new_photos: tuple[str, ...]
    lost_photos: tuple[str, ...]
    changed: tuple[str, ...]
    """Originals ("original ID") and photos ("photo ID") whose bytes are others now."""
    relabelled: tuple[str, ...]
    """Photos with another truth."""
    products: int
    """How many the later version has."""
    photos: int

    def __str__(self) -> str:
        parts = [
            _signed("+", self.new_products, "product"),
            _signed("−", self.lost_products, "product"),
            _signed("+", self.new_photos, "photo"),
            _signed("−", self.lost_photos, "photo"),
            f"{len(self.changed):,} changed" if self.changed else "",
            f"{len(self.relabelled):,} relabelled" if self.relabelled else "",
        ]
        holds = f"{self.products:,} products, {self.photos:,} photos"
        return f"{', '.join(part for part in parts if part) or 'the same pictures'} ({holds})"


def log(workspace: Workspace, most: int | None = None) -> list[Version]:
    """The versions that git's history of data.dvc holds, newest first, at most so many."""
    limit = [] if most is None else [f"-{most}"]
    said = _git(workspace, "log", *limit, f"--format={_FIELDS}", "--diff-filter=AM", "--", "data.dvc")
    found = []
    for line in filter(None, said.split("\0\n")):
        commit, at, message = line.split("\0")
        found.append(_version(workspace, commit.strip(), at, message))
    return found


def find(workspace: Workspace, name: str) -> Version:
    """A version by the beginning of its md5, by its tag, or by a git revision such as HEAD~3. Raises BadInput."""
    known = log(workspace)
    wanted = name.removeprefix(TAG)
    by_md5 = {one.md5: one for one in known if len(wanted) >= 4 and one.md5.startswith(wanted)}
    if not by_md5:  # one that took a version's place when a picture was forgotten
        ledger = forgotten.read(workspace)
        followed = {one.md5: one for one in known if len(wanted) >= 4}
        by_md5 = {md5: one for md5, one in followed.items() if forgotten.successor(ledger, md5).startswith(wanted)}
    if len(by_md5) > 1:
        raise BadInput(f"{name} begins more than one data version: {', '.join(md5[:16] for md5 in by_md5)}")
    if by_md5:
        return next(iter(by_md5.values()))
    try:
        commit = _git(workspace, "rev-list", "-1", name, "--", "data.dvc").strip()
    except BadInput:
        commit = ""
    found = next((one for one in known if one.commit == commit), None)
    if found is None:
        raise BadInput(f"there is no data version {name}: `photoproof data log` lists them")
    return found


def pictures(workspace: Workspace, version: Version) -> pd.DataFrame:
    """The manifest of a version (its COLUMNS), from DVC's cache or a remote; without what was forgotten since.

    Raises BadInput where neither has it.
    """
    versions.ensure_store(workspace)
    md5 = forgotten.successor(forgotten.read(workspace), version.md5)
    with Repo(os.fspath(workspace.root)) as repo:
        for remote in (None, versions.STORE, "sample"):
            try:
                odb = repo.cache.local if remote is None else repo.cloud.get_remote_odb(remote, "data")
                tree = Tree.load(odb, HashInfo("md5", f"{md5}.dir"))
                oid = next(entry["md5"] for entry in tree.as_list() if entry["relpath"] == MANIFEST)
                with odb.fs.open(odb.oid_to_path(oid), "rb") as file:
                    return pq.read_table(file, columns=COLUMNS).to_pandas()
            except (DvcException, ObjectFormatError, OSError):
                continue
    raise BadInput(
        f"the pictures of data version {version.md5[:12]} are neither in DVC's cache nor in the remotes "
        f"{versions.STORE} and sample: push them from where they were made (`dvc push -r store data.dvc`)"
    )


def difference(before: pd.DataFrame | None, after: pd.DataFrame) -> Difference:
    """What changed between two manifests; everything is new where there is none before."""
    old = _by_id(before if before is not None else after.iloc[:0])
    new = _by_id(after)
    both = sorted(old.keys() & new.keys())

    def ids(keys: set[tuple[str, str]], role: str) -> tuple[str, ...]:
        return tuple(sorted(picture_id for of, picture_id in keys if of == role))

    came, went = new.keys() - old.keys(), old.keys() - new.keys()
    return Difference(
        new_products=ids(came, "original"),
        lost_products=ids(went, "original"),
        new_photos=ids(came, "photo"),
        lost_photos=ids(went, "photo"),
        changed=tuple(" ".join(key) for key in both if old[key][0] != new[key][0]),
        relabelled=tuple(key[1] for key in both if key[0] == "photo" and old[key][1] != new[key][1]),
        products=sum(role == "original" for role, _ in new),
        photos=sum(role == "photo" for role, _ in new),
    )


def commit(workspace: Workspace, version: versions.DataVersion) -> str | None:
    """Commit data.dvc with a message that says what changed, and tag it; the commit, None where it is committed.

    `version` is that of data/ as it is now.
    """
    last = log(workspace, 1)
    before = None
    if last:
        try:
            before = pictures(workspace, last[0])
        except BadInput:  # an old version that nobody pushed: the new one is committed all the same
            before = None
    after = pq.read_table(workspace.data / MANIFEST, columns=COLUMNS).to_pandas()
    message = f"Data version {version.md5[:12]}: {difference(before, after)}"
    made = versions.commit(workspace, ["data.dvc"], message)
    if made:
        tag(workspace, version.md5, made)
    return made


def tag(workspace: Workspace, md5: str, commit: str) -> None:
    """Tag the commit that made a version."""
    _git(workspace, "tag", "--force", f"{TAG}{md5[:12]}", commit)


def checkout(workspace: Workspace, version: Version) -> versions.DataVersion:
    """Bring data.dvc and data/ to a version, without what was forgotten since; git's HEAD stays where it is."""
    said = _git(workspace, "show", f"{version.commit}:data.dvc")
    part = workspace.root / "data.dvc.part"
    part.write_text(said)
    part.replace(workspace.root / "data.dvc")
    versions.pull_data(workspace)
    found = versions.read_version(workspace)
    assert found is not None, "pull_data refuses a workspace without data.dvc"
    return found


def _version(workspace: Workspace, commit: str, at: str, message: str) -> Version:
    data = versions.parse_version(_git(workspace, "show", f"{commit}:data.dvc"))
    return Version(commit, datetime.fromisoformat(at), data.md5, data.files, data.bytes, message)


def _by_id(rows: pd.DataFrame) -> dict[tuple[str, str], tuple[str, str]]:
    keys = zip(rows.role, rows.picture_id, strict=True)
    return dict(zip(keys, zip(rows.sha256, rows.product_id, strict=True), strict=True))


def _signed(sign: str, ids: tuple[str, ...], what: str) -> str:
    return f"{sign}{len(ids):,} {what}{'' if len(ids) == 1 else 's'}" if ids else ""


def _git(workspace: Workspace, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=workspace.root, capture_output=True, text=True)
    if done.returncode:
        raise BadInput(f"git {words[0]}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return done.stdout
