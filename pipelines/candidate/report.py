"""The report on a decision: its rules with their numbers, and how every version stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.registry import versions as registry
from pipelines.registry.versions import MODEL, Version
from pipelines.workspace.places import Workspace

if TYPE_CHECKING:
    from pipelines.candidate.decision import Decision


def as_markdown(decision: Decision, versions: Sequence[Version] = ()) -> str:
    """The report for people."""
    lines = [
        f"# {MODEL} version {decision.version}: {decision.standing}",
        "",
        f"Model {decision.model_id}" + (f", beside champion {decision.champion}." if decision.champion else "."),
        "",
        "| rule | measured | limit | passed |",
        "|---|---|---|---|",
    ]
    for rule in decision.rules:
        lines.append(f"| {rule.name} | {rule.told} | {rule.limit} | {'yes' if rule.passed else '**no**'} |")
    lines += ["", *decision.notes, ""]
    if versions:
        lines += ["## All versions", "", "| version | aliases | stands | beside | share decided | data |"]
        lines += ["|---|---|---|---|---|---|"]
    for one in sorted(versions, key=lambda one: -one.version):
        tags = one.tags
        row = [str(one.version), ", ".join(one.aliases), tags.get("candidate", "not decided")]
        row += [
            tags.get("candidate_beside", ""),
            tags.get("known.share_decided", ""),
            tags.get("data_version", "")[:12],
        ]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines).rstrip() + "\n"


def write_report(workspace: Workspace, decision: Decision, versions: Sequence[Version]) -> str:
    """Write reports/candidate/decision.json and decision.md, each by rename; the latter's text."""
    from pipelines.candidate.decision import as_json

    folder = workspace.reports / "candidate"
    folder.mkdir(parents=True, exist_ok=True)
    text = as_markdown(decision, versions)
    for name, content in {"decision.json": as_json(decision) + "\n", "decision.md": text}.items():
        part = folder / f"{name}.part"
        part.write_text(content)
        part.replace(folder / name)
    return text


def beside_champion(workspace: Workspace, version: int, champion: int | None) -> list[str]:
    """A Markdown table of a version's headline figures beside the champion's, where there is another champion."""
    found = {one.version: one.tags for one in registry.all_versions(workspace)}
    mine, theirs = found[version], found.get(champion or 0, {})
    names = sorted(name for name in mine if name.startswith(("known.", "new.")))
    title = f"champion, version {champion}" if champion else "no other champion"
    rows = [f"| {name} | {mine[name]} | {theirs.get(name, '')} |" for name in names]
    return [f"| figure | version {version} | {title} |", "|---|---|---|", *rows]
