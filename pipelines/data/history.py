"""Versions of the data over time: git's history of data.dvc, and what each version holds, read through DVC."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_objects.fs.local import localfs

from pipelines.data import forgotten_ledger, versioning
from pipelines.data.difference import Counts, Row, _holds, _rows, compare, summary
from pipelines.data.object_stores import CACHE, Store
from pipelines.data.versioning import VersioningFailed
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput
from training.stage.files import write_whole
from training.stage.places import MANIFEST

TAG = "data-"
"""Begins the git tag of a data version; 12 digits of its md5 follow."""
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


def log(workspace: Workspace, most: int | None = None) -> list[Version]:
    """The versions that git's history of data.dvc holds, newest first, at most so many."""
    limit = [] if most is None else [f"-{most}"]
    output = versioning.git(workspace, "log", *limit, f"--format={_FIELDS}", "--diff-filter=AM", "--", "data.dvc")
    commits = [line.strip().split("\0") for line in output.split("\0\n") if line]
    data = versioning.versions_at(workspace, (fields[0] for fields in commits))
    return [_version(*fields, data[fields[0]]) for fields in commits]


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
            fields = versioning.git(workspace, "show", "--no-patch", f"--format={_FIELDS}", commit).split("\0")
            data = versioning.versions_at(workspace, [commit])
            if commit in data:
                return _version(*fields[:3], data[commit])
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


def _version(commit: str, at: str, message: str, data: versioning.DataVersion) -> Version:
    return Version(commit, datetime.fromisoformat(at), data.md5, data.files, data.bytes, message)
