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
from pipelines.database.engine import opened, snapshot
from pipelines.registry import artifacts
from pipelines.registry.versions import MODEL, ModelVersion, VersionNotFound, all_versions
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput
from training.stage.quiet import hushed

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
        lines = []
        if self.version is not None:
            tags = self.provenance
            dirty = ", with uncommitted changes" if tags.get("git_dirty") == "true" else ""
            lines.append(f"{MODEL} version {self.version}, model {self.verdict['model_id']}")
            lines.append(f"data version {tags.get('data_version', 'unknown')}")
            lines.append(f"commit {tags.get('git_commit', 'unknown')}{dirty}")
            lines.append(f"params {tags.get('params_sha256', 'unknown')}")
        result = {True: "same score", False: "not the same", None: "not run again"}[self.same]
        scores = [f"{name} {self.now[name]:.6f}" for name in SCORES[:3] if self.now.get(name) is not None]
        lines.append(f"{result}: {'; '.join(self.notes) or ', '.join(scores) or self.now.get('outcome', '')}")
        return "\n".join(lines)


def read_verdict(path: Path) -> dict[str, Any]:
    """A verdict as `photoproof verify --json` prints it. Raises BadInput."""
    try:
        verdict = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path} is not a verdict: {error}") from None
    return _checked(verdict, str(path))


def read_verdict_row(workspace: Workspace, verdict_id: int) -> dict[str, Any]:
    """A row of the verdicts table. Raises BadInput, DatabaseFailed."""
    table = tables.verdicts
    with opened(workspace.database_url) as engine, snapshot(engine) as connection:
        row = connection.execute(sa.select(table).where(table.c.verdict_id == verdict_id)).mappings().first()
    if row is None:
        raise BadInput(f"the verdicts table has no row {verdict_id}")
    return _checked(dict(row), f"verdict {verdict_id}")


def replay_verdict(
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
    pair, missing = {}, []
    for name, file in (("original", original), ("photo", photo)):
        image_bytes = _bytes_of(workspace, verdict[f"{name}_sha256"], file)
        if image_bytes is None:
            missing.append(f"the {name} (sha256 {verdict[f'{name}_sha256'][:12]}…) is not in the product database")
        else:
            pair[name] = prepare(image_bytes, name)
    if missing:
        missing.append("give the files with --original and --photo")
        return Replay(verdict, number, provenance, None, {}, tuple(missing))
    now = _verify(workspace, number, pair["original"], pair["photo"])
    notes = list(_differences(verdict, now))
    if version and verdict.get("model_version") not in (None, number):
        notes.append(f"the verdict says version {verdict['model_version']}, but MLflow has its model as {number}")
        return Replay(verdict, number, provenance, len(notes) == 1, now, tuple(notes))
    return Replay(verdict, number, provenance, not notes, now, tuple(notes))


def _version_of(workspace: Workspace, verdict: Mapping[str, Any]) -> ModelVersion:
    versions = all_versions(workspace)
    for version in versions:
        if version.tags.get("model_id") == verdict["model_id"]:
            return version
    known = ", ".join(f"{version.version} ({version.tags.get('model_id')})" for version in versions) or "none"
    raise VersionNotFound(f"no version of {MODEL} is model {verdict['model_id']}; those in MLflow: {known}")


def _bytes_of(workspace: Workspace, sha256: str, file: Path | None) -> bytes | None:
    if file is not None:
        image_bytes = file.read_bytes() if file.is_file() else None
        if image_bytes is None or prepare(image_bytes).sha256 != sha256:
            raise BadInput(f"{file} is not the picture of the verdict, whose sha256 is {sha256}")
        return image_bytes
    with opened(workspace.database_url) as engine, snapshot(engine) as connection:
        for table in (tables.photos, tables.products):
            row = connection.execute(sa.select(table.c.image_bytes).where(table.c.sha256 == sha256)).first()
            if row is not None:
                return row.image_bytes
    return None


def _verify(
    workspace: Workspace, version: int | None, original: PreparedPicture, photo: PreparedPicture
) -> dict[str, Any]:
    """What the client would answer now, with this version behind it."""
    copied = copy_reason(original, photo)
    if copied is not None:
        return {"outcome": "identical", "reason": copied} | dict.fromkeys(SCORES)
    if version is None:
        return {"outcome": "not identical", "reason": "a model would be asked now"} | dict.fromkeys(SCORES)
    from training.saved_model import loading  # TensorFlow, which takes seconds, is not needed before

    inputs = {"original_bytes": original.image_bytes, "photo_bytes": photo.image_bytes}
    with (
        tempfile.TemporaryDirectory() as folder,
        hushed(),
        loading.load(artifacts.download(workspace, version, Path(folder))) as model,
    ):
        outputs = model.run("verify", {name: np.array([value], object) for name, value in inputs.items()})
    scores = {name: float(outputs[name][0]) for name in SCORES}
    if not outputs["decoded"][0]:
        return {"outcome": "not decoded", "reason": "the model can't decode a picture"} | scores
    outcome, reason = decide(scores["probability"], scores["accept_at"], scores["reject_at"])
    return {"outcome": outcome, "reason": reason} | scores


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, in words. A score that the verdict does not have can't differ."""
    differences = []
    if then["outcome"] != now["outcome"]:
        differences.append(f"{then['outcome']} then, {now['outcome']} now ({now['reason']})")
    for name in SCORES:
        before, after = then.get(name), now.get(name)
        if before is not None and after is not None and _differ(before, after):
            differences.append(f"{name} {before:.6f} then, {after:.6f} now")
    return differences


def _differ(before: float, after: float) -> bool:
    from training.saved_model.golden import TOLERANCE

    return abs(before - after) > TOLERANCE


def _checked(verdict: Any, source: str) -> dict[str, Any]:
    missing = [name for name in NEEDED if not isinstance(verdict, dict) or name not in verdict]
    if missing:
        raise BadInput(
            f"{source} is not a verdict: it has no {', '.join(missing)} (`photoproof verify --json` prints one)"
        )
    return verdict
