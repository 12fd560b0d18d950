"""Versions of the data over time: git's history of data.dvc, and what each version holds, read through DVC."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_objects.fs.local import localfs

from pipelines.data import forgotten_ledger, versioning
from pipelines.data.ingest import MANIFEST
from pipelines.data.object_stores import CACHE, Store
from pipelines.data.versioning import VersioningFailed
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput

TAG = "data-"
"""Begins the git tag of a data version; 12 digits of its md5 follow."""
COLUMNS = ["role", "picture_id", "product_id", "sha256"]
"""Of a manifest, all that a difference looks at."""
Row = tuple[str, str, str, str]
"""A picture's COLUMNS."""
Counts = Counter[tuple[str, str]]
"""(what happened, role) -> to how many pictures."""
_ROWS = 2_000
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
        counts: Counts = Counter(("changed", one.partition(" ")[0]) for one in self.changed)
        counts.update(
            {
                ("new", "original"): len(self.new_products),
                ("lost", "original"): len(self.lost_products),
                ("new", "photo"): len(self.new_photos),
                ("lost", "photo"): len(self.lost_photos),
                ("relabelled", "photo"): len(self.relabelled),
                ("kept", "original"): self.products - len(self.new_products),
                ("kept", "photo"): self.photos - len(self.new_photos),
            }
        )
        return summary(counts)


def log(workspace: Workspace, most: int | None = None) -> list[Version]:
    """The versions that git's history of data.dvc holds, newest first, at most so many."""
    limit = [] if most is None else [f"-{most}"]
    said = versioning.git(workspace, "log", *limit, f"--format={_FIELDS}", "--diff-filter=AM", "--", "data.dvc")
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
        ledger = forgotten_ledger.read(workspace)
        followed = {one.md5: one for one in known if len(wanted) >= 4}
        by_md5 = {
            md5: one for md5, one in followed.items() if forgotten_ledger.successor(ledger, md5).startswith(wanted)
        }
    if len(by_md5) > 1:
        raise BadInput(f"{name} begins more than one data version: {', '.join(md5[:16] for md5 in by_md5)}")
    if by_md5:
        return next(iter(by_md5.values()))
    with contextlib.suppress(VersioningFailed):  # no revision, or one without data
        if commit := versioning.git(workspace, "rev-list", "-1", name, "--", "data.dvc").strip():
            said = versioning.git(workspace, "show", "--no-patch", f"--format={_FIELDS}", commit)
            _, at, message, _ = said.split("\0")
            return _version(workspace, commit, at, message)
    raise BadInput(f"there is no data version {name}: `photoproof data log` lists them")


def pictures(workspace: Workspace, version: Version) -> Iterator[Row]:
    """The manifest of a version, from DVC's cache or a remote; without what was forgotten since.

    Raises BadInput where neither has it, VersioningFailed where that can't be known.
    """
    versioning.ensure_store(workspace)
    md5 = forgotten_ledger.successor(forgotten_ledger.read(workspace), version.md5)
    failed = []
    with Repo(os.fspath(workspace.root)) as repo:
        remotes = [name for name in (versioning.STORE, "sample") if name in repo.config["remote"]]
        for remote in (None, *remotes):
            try:
                odb = repo.cloud.get_remote_odb(remote, "data") if remote else repo.cache.local
                oid = Store(f"remote {remote}" if remote else CACHE, odb, False).manifest_of(f"{md5}.dir")
                if oid and odb.exists(oid):
                    return _rows(odb.fs, odb.oid_to_path(oid))
            except (DvcException, VersioningFailed) as error:
                failed.append(str(error))
    if failed:
        raise VersioningFailed(f"the pictures of data version {version.md5[:12]} can't be read: {'; '.join(failed)}")
    raise BadInput(
        f"the pictures of data version {version.md5[:12]} are neither in DVC's cache nor in the remotes "
        f"{versioning.STORE} and sample: push them from where they were made (`dvc push -r store data.dvc`)"
    )


def _rows(fs: Any, path: str) -> Iterator[Row]:
    """The rows of a manifest in its order, read as they are asked for.

    Raises BadInput where it has another order, VersioningFailed where it can't be read, or not to its end.
    """
    last = ("", "")
    try:
        with fs.open(path, "rb") as file, pq.ParquetFile(file) as manifest:
            for batch in manifest.iter_batches(_ROWS, columns=COLUMNS):
                role, picture_id, product_id, sha256 = (batch.column(name).to_pylist() for name in COLUMNS)
                for row in zip(role, picture_id, product_id, sha256, strict=True):
                    if row[:2] < last:
                        raise BadInput(f"{path} is not sorted by role and picture_id: let `photoproof ingest` write it")
                    last = row[:2]
                    yield row
    except BadInput:
        raise
    except Exception as error:  # each kind of remote raises its own
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise VersioningFailed(f"the manifest {path} can't be read to its end: {said}") from error


def compare(before: Iterable[Row], after: Iterable[Row]) -> Iterator[tuple[str, str, str]]:
    """(what happened, role, picture_id) of every picture of two manifests, which are read alongside in their order.

    A picture is "new", "lost" or "kept"; one that is kept may be "changed" (its bytes) and, if it is a photo,
    "relabelled" (its truth) besides.
    """
    olds, news = iter(before), iter(after)
    old, new = next(olds, None), next(news, None)
    while old or new:
        if old and (not new or old[:2] < new[:2]):
            yield "lost", *old[:2]
            old = next(olds, None)
        elif new and (not old or new[:2] < old[:2]):
            yield "new", *new[:2]
            new = next(news, None)
        elif old and new:
            yield "kept", *new[:2]
            if old[3] != new[3]:
                yield "changed", *new[:2]
            if new[0] == "photo" and old[2] != new[2]:
                yield "relabelled", *new[:2]
            old, new = next(olds, None), next(news, None)


def difference(before: Iterable[Row], after: Iterable[Row]) -> Difference:
    """What changed between two manifests; in memory is what changed, not what stayed."""
    ids: dict[tuple[str, str], list[str]] = {}
    kept: Counts = Counter()
    for what, role, picture_id in compare(before, after):
        if what == "kept":
            kept[what, role] += 1
        else:
            ids.setdefault((what, role), []).append(picture_id)

    def of(what: str, role: str) -> tuple[str, ...]:
        return tuple(ids.get((what, role), ()))

    return Difference(
        new_products=of("new", "original"),
        lost_products=of("lost", "original"),
        new_photos=of("new", "photo"),
        lost_photos=of("lost", "photo"),
        changed=tuple(f"{role} {one}" for role in ("original", "photo") for one in of("changed", role)),
        relabelled=of("relabelled", "photo"),
        products=kept["kept", "original"] + len(of("new", "original")),
        photos=kept["kept", "photo"] + len(of("new", "photo")),
    )


def summary(counts: Counts) -> str:
    """What a difference comes to, in a line: "+35 photos, −2 products (812 products, 9,117 photos)"."""
    changed = counts["changed", "original"] + counts["changed", "photo"]
    relabelled = counts["relabelled", "photo"]
    parts = [
        _signed("+", counts["new", "original"], "product"),
        _signed("−", counts["lost", "original"], "product"),
        _signed("+", counts["new", "photo"], "photo"),
        _signed("−", counts["lost", "photo"], "photo"),
        f"{changed:,} changed" if changed else "",
        f"{relabelled:,} relabelled" if relabelled else "",
    ]
    return f"{', '.join(part for part in parts if part) or 'the same pictures'} ({_holds(counts)})"


def _holds(counts: Counts) -> str:
    products, photos = (counts["new", role] + counts["kept", role] for role in ("original", "photo"))
    return f"{counted(products, 'product')}, {counted(photos, 'photo')}"


def commit(workspace: Workspace, version: versioning.DataVersion) -> str | None:
    """Commit data.dvc with a message that says what changed, and tag it; the commit, None where it is committed.

    `version` is that of data/ as it is now.
    """
    last = next(iter(log(workspace, 1)), None)
    try:
        said = summary(_counts(pictures(workspace, last) if last else (), workspace))
    except (BadInput, VersioningFailed):  # of an old version that nobody pushed, or of the new one: that is told here
        said = f"what changed is not known ({_holds(_counts((), workspace))})"
    made = versioning.commit(workspace, ["data.dvc"], f"Data version {version.md5[:12]}: {said}")
    if made:
        tag(workspace, version.md5, made)
    return made


def _counts(before: Iterable[Row], workspace: Workspace) -> Counts:
    after = _rows(localfs, os.fspath(workspace.data / MANIFEST))
    return Counter((what, role) for what, role, _ in compare(before, after))


def tag(workspace: Workspace, md5: str, commit: str) -> None:
    """Tag the commit that made a version."""
    versioning.git(workspace, "tag", "--force", f"{TAG}{md5[:12]}", commit)


def checkout(workspace: Workspace, version: Version) -> versioning.DataVersion:
    """Bring data.dvc and data/ to a version, without what was forgotten since; git's HEAD stays where it is.

    Raises BadInput or VersioningFailed where that can't be; data.dvc says then what it said before.
    """
    path = workspace.root / "data.dvc"
    before = path.read_text() if path.is_file() else None
    said = versioning.committed(workspace, version.commit)
    assert said is not None, "a version's commit has a data.dvc"
    write_whole(path, said)
    try:
        versioning.pull_data(workspace)
    except (BadInput, VersioningFailed):
        if before is None:
            path.unlink(missing_ok=True)
        else:
            write_whole(path, before)
        raise
    found = versioning.read_version(workspace)
    assert found is not None, "pull_data refuses a workspace without data.dvc"
    return found


def write_whole(path: Path, text: str) -> None:
    """Write a file by rename: whole, or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def _version(workspace: Workspace, commit: str, at: str, message: str) -> Version:
    data = versioning.parse_version(versioning.git(workspace, "show", f"{commit}:data.dvc"))
    return Version(commit, datetime.fromisoformat(at), data.md5, data.files, data.bytes, message)


def _signed(sign: str, count: int, what: str) -> str:
    return f"{sign}{counted(count, what)}" if count else ""


def counted(count: int, what: str) -> str:
    """A number of things: "1 photo", "2 photos"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
