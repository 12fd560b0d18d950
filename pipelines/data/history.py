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
from pipelines.data.difference import Counts, PictureRow, compare_manifests, read_rows, summarize, summarize_size
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
class CommittedVersion:
    """A commit that changed data.dvc."""

    commit: str
    at: datetime
    md5: str
    files: int
    bytes: int
    message: str

    def __str__(self) -> str:
        return f"{self.md5[:12]}  {self.at:%Y-%m-%d %H:%M}  {self.message}"


def log(workspace: Workspace, most: int | None = None) -> list[CommittedVersion]:
    """The versions in git's history of data.dvc, newest first, at most `most` of them."""
    limit = [] if most is None else [f"-{most}"]
    output = versioning.git(workspace, "log", *limit, f"--format={_FIELDS}", "--diff-filter=AM", "--", "data.dvc")
    commits = [line.strip().split("\0") for line in output.split("\0\n") if line]
    data = versioning.versions_at(workspace, (fields[0] for fields in commits))
    return [_version(commit, at, message, data[commit]) for commit, at, message in commits]


def find(workspace: Workspace, name: str) -> CommittedVersion:
    """A version by the beginning of its md5, by its tag, or by a git revision such as HEAD~3. Raises BadInput."""
    known = log(workspace)
    wanted = name.removeprefix(TAG)
    versions = {version.md5: version for version in known if len(wanted) >= 4}
    by_md5 = {md5: version for md5, version in versions.items() if md5.startswith(wanted)}
    if not by_md5:  # a version that replaced another when a picture was forgotten
        ledger = forgotten_ledger.read(workspace)
        by_md5 = {
            md5: version
            for md5, version in versions.items()
            if forgotten_ledger.find_successor(ledger, md5).startswith(wanted)
        }
    if len(by_md5) > 1:
        raise BadInput(f"more than one data version begins with {name}: {', '.join(md5[:16] for md5 in by_md5)}")
    if by_md5:
        return next(iter(by_md5.values()))
    with contextlib.suppress(VersioningFailed):  # not a revision, or one without data
        if commit := versioning.git(workspace, "rev-list", "-1", name, "--", "data.dvc").strip():
            fields = versioning.git(workspace, "show", "--no-patch", f"--format={_FIELDS}", commit).split("\0")
            data = versioning.versions_at(workspace, [commit])
            if commit in data:
                return _version(commit, fields[1], fields[2], data[commit])
    raise BadInput(f"there is no data version {name}: `photoproof data log` lists them")


def read_pictures(workspace: Workspace, version: CommittedVersion) -> Iterator[PictureRow]:
    """The manifest of a version, from DVC's cache or a remote; without what was forgotten since.

    Raises BadInput where neither has it, VersioningFailed where a remote is unavailable.
    """
    versioning.ensure_store(workspace)
    md5 = forgotten_ledger.find_successor(forgotten_ledger.read(workspace), version.md5)
    errors = []
    with Repo(os.fspath(workspace.root)) as repo:
        remotes = [name for name in (versioning.STORE, "sample") if name in repo.config["remote"]]
        for remote in (None, *remotes):
            try:
                odb = repo.cloud.get_remote_odb(remote, "data") if remote else repo.cache.local
                oid = Store(f"remote {remote}" if remote else CACHE, odb, False).find_manifest(f"{md5}.dir")
                if oid and odb.exists(oid):
                    return read_rows(odb.fs, odb.oid_to_path(oid))
            except (DvcException, VersioningFailed) as error:
                errors.append(str(error))
    if errors:
        raise VersioningFailed(f"the pictures of data version {version.md5[:12]} can't be read: {'; '.join(errors)}")
    raise BadInput(
        f"the pictures of data version {version.md5[:12]} are neither in DVC's cache nor in the remotes "
        f"{versioning.STORE} and sample: push them from where they were made (`dvc push -r store data.dvc`)"
    )


def commit(workspace: Workspace, version: versioning.DataVersion) -> str | None:
    """Commit data.dvc with a message that says what changed, and tag it; the commit, None where that is done already.

    `version` is that of data/ as it is now.
    """
    last = next(iter(log(workspace, 1)), None)
    try:
        changes = summarize(_count_changes(read_pictures(workspace, last) if last else (), workspace))
    except (BadInput, VersioningFailed):  # of an old version that nobody pushed; the new one's error is raised here
        changes = f"what changed is not known ({summarize_size(_count_changes((), workspace))})"
    new_commit = versioning.commit(workspace, ["data.dvc"], f"Data version {version.md5[:12]}: {changes}")
    if new_commit:
        tag(workspace, version.md5, new_commit)
    return new_commit


def _count_changes(before: Iterable[PictureRow], workspace: Workspace) -> Counts:
    after = read_rows(localfs, os.fspath(workspace.data / MANIFEST))
    return Counter((change, role) for change, role, _ in compare_manifests(before, after))


def tag(workspace: Workspace, md5: str, commit: str) -> None:
    """Tag the commit that made a version."""
    versioning.git(workspace, "tag", "--force", f"{TAG}{md5[:12]}", commit)


def checkout(workspace: Workspace, version: CommittedVersion) -> versioning.DataVersion:
    """Bring data.dvc and data/ to a version, without what was forgotten since; git's HEAD stays where it is.

    Raises BadInput or VersioningFailed where that fails; data.dvc is then as it was before.
    """
    path = workspace.root / "data.dvc"
    before = path.read_text() if path.is_file() else None
    text = versioning.read_committed(workspace, version.commit)
    assert text is not None, "a version's commit has a data.dvc"
    write_whole(path, text)
    try:
        versioning.pull_data(workspace)
    except (BadInput, VersioningFailed):
        if before is None:
            path.unlink(missing_ok=True)
        else:
            write_whole(path, before)
        raise
    data = versioning.read_version(workspace)
    assert data is not None, "pull_data refuses a workspace without data.dvc"
    return data


def _version(commit: str, at: str, message: str, data: versioning.DataVersion) -> CommittedVersion:
    return CommittedVersion(commit, datetime.fromisoformat(at), data.md5, data.files, data.bytes, message)
