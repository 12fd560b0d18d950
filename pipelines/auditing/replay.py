"""Replay a verdict: which version gave it, on what data and code, and whether it gives the same score again."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from photoproof.pictures.identical import copy_reason
from photoproof.pictures.prepare import PreparedPicture, prepare
from photoproof.verdict import decide
from pipelines.database import tables
from pipelines.database.engine import connect, snapshot
from pipelines.registry import artifacts
from pipelines.registry import versions as registry
from pipelines.registry.versions import MODEL, Version, VersionNotFound
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput
from training.stage.quiet import hushed

TOLERANCE = 1e-4
"""Within which a score is the same."""

NEEDED = ("outcome", "model_id", "original_sha256", "photo_sha256")
SCORES = ("similarity", "distance", "probability", "accept_at", "reject_at")


@dataclass(frozen=True)
class Replay:
    """A verdict then and now."""

    verdict: Mapping[str, Any]
    version: int | None
    """The version in MLflow that gave it; None for an "identical", which asks no model."""
    provenance: Mapping[str, str]
    """The version's data_version, git_commit, git_dirty and params_sha256."""
    same: bool | None
    """None where it could not be run again; `notes` say why."""
    now: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = self.provenance
        lines = []
        if self.version is not None:
            dirty = ", with uncommitted changes" if told.get("git_dirty") == "true" else ""
            lines.append(f"{MODEL} version {self.version}, model {self.verdict['model_id']}")
            lines.append(f"data version {told.get('data_version', 'unknown')}")
            lines.append(f"commit {told.get('git_commit', 'unknown')}{dirty}")
            lines.append(f"params {told.get('params_sha256', 'unknown')}")
        told_same = {True: "same score", False: "not the same", None: "not run again"}[self.same]
        scores = [f"{name} {self.now[name]:.6f}" for name in SCORES[:3] if self.now.get(name) is not None]
        lines.append(f"{told_same}: {'; '.join(self.notes) or ', '.join(scores) or self.now.get('outcome', '')}")
        return "\n".join(lines)


def read_verdict(path: Path) -> dict[str, Any]:
    """A verdict as `photoproof verify --json` prints it. Raises BadInput."""
    try:
        verdict = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path} is no verdict: {error}") from None
    return _checked(verdict, str(path))


def verdict_of(workspace: Workspace, verdict_id: int) -> dict[str, Any]:
    """A row of the verdicts table. Raises BadInput, DatabaseFailed."""
    table = tables.verdicts
    engine = connect(workspace.database_url)
    try:
        with snapshot(engine) as connection:
            row = connection.execute(sa.select(table).where(table.c.verdict_id == verdict_id)).mappings().first()
    finally:
        engine.dispose()
    if row is None:
        raise BadInput(f"the verdicts table has no row {verdict_id}")
    return _checked(dict(row), f"verdict {verdict_id}")


def replay(
    workspace: Workspace, verdict: Mapping[str, Any], original: Path | None = None, photo: Path | None = None
) -> Replay:
    """Run the verdict's pair again under the version that gave it.

    The pictures are taken from the product database by their sha256, or from files. Raises VersionNotFound,
    RegistryUnreachable, BadInput (a file that is another picture).
    """
    version = None if verdict["model_id"] is None else _version_of(workspace, verdict)
    number = version.version if version else None
    names = ("data_version", "git_commit", "git_dirty", "params_sha256")
    provenance = {name: version.tags[name] for name in names if name in version.tags} if version else {}
    pair, lost = {}, []
    for name, file in (("original", original), ("photo", photo)):
        found = _bytes_of(workspace, verdict[f"{name}_sha256"], file)
        if found is None:
            lost.append(f"the {name} (sha256 {verdict[f'{name}_sha256'][:12]}…) is not in the product database")
        else:
            pair[name] = prepare(found, name)
    if lost:
        lost.append("give the files with --original and --photo")
        return Replay(verdict, number, provenance, None, {}, tuple(lost))
    now = _again(workspace, number, pair["original"], pair["photo"])
    notes = list(_differences(verdict, now))
    if version and verdict.get("model_version") not in (None, number):
        notes.append(f"the verdict says version {verdict['model_version']}, but MLflow has its model as {number}")
        return Replay(verdict, number, provenance, len(notes) == 1, now, tuple(notes))
    return Replay(verdict, number, provenance, not notes, now, tuple(notes))


def _version_of(workspace: Workspace, verdict: Mapping[str, Any]) -> Version:
    versions = registry.all_versions(workspace)
    for one in versions:
        if one.tags.get("model_id") == verdict["model_id"]:
            return one
    known = ", ".join(f"{one.version} ({one.tags.get('model_id')})" for one in versions) or "none"
    raise VersionNotFound(f"no version of {MODEL} is model {verdict['model_id']}; those in MLflow: {known}")


def _bytes_of(workspace: Workspace, sha256: str, file: Path | None) -> bytes | None:
    if file is not None:
        found = file.read_bytes() if file.is_file() else None
        if found is None or prepare(found).sha256 != sha256:
            raise BadInput(f"{file} is not the picture of the verdict, whose sha256 is {sha256}")
        return found
    engine = connect(workspace.database_url)
    try:
        with snapshot(engine) as connection:
            for table in (tables.photos, tables.products):
                row = connection.execute(sa.select(table.c.image_bytes).where(table.c.sha256 == sha256)).first()
                if row is not None:
                    return row[0]
    finally:
        engine.dispose()
    return None


def _again(
    workspace: Workspace, version: int | None, original: PreparedPicture, photo: PreparedPicture
) -> dict[str, Any]:
    """What the client would answer now, with this version behind it."""
    copied = copy_reason(original, photo)
    if copied is not None:
        return {"outcome": "identical", "reason": copied} | dict.fromkeys(SCORES)
    if version is None:
        return {"outcome": "not identical", "reason": "a model would be asked now"} | dict.fromkeys(SCORES)
    from training.saved_model import loading

    inputs = {"original_bytes": original.image_bytes, "photo_bytes": photo.image_bytes}
    with (
        tempfile.TemporaryDirectory() as folder,
        hushed(),
        loading.load(artifacts.download(workspace, version, Path(folder))) as model,
    ):
        found = model.run("verify", {name: np.array([value], object) for name, value in inputs.items()})
    now = {name: float(found[name][0]) for name in SCORES}
    if not found["decoded"][0]:
        return {"outcome": "not decoded", "reason": "the model can't decode a picture"} | now
    outcome, reason = decide(now["probability"], now["accept_at"], now["reject_at"])
    return {"outcome": outcome, "reason": reason} | now


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, in words. A score that the verdict does not have can't differ."""
    found = []
    if then["outcome"] != now["outcome"]:
        found.append(f"{then['outcome']} then, {now['outcome']} now ({now['reason']})")
    for name in SCORES:
        before, after = then.get(name), now.get(name)
        if before is not None and after is not None and abs(before - after) > TOLERANCE:
            found.append(f"{name} {before:.6f} then, {after:.6f} now")
    return found


def _checked(verdict: Any, source: str) -> dict[str, Any]:
    missing = [name for name in NEEDED if not isinstance(verdict, dict) or name not in verdict]
    if missing:
        raise BadInput(
            f"{source} is no verdict: it has no {', '.join(missing)} (`photoproof verify --json` prints one)"
        )
    return verdict
