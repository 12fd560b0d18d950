"""The report on a decision: its rules with their numbers, and how every version stands."""

from collections.abc import Sequence

from pipelines.candidate.decision import CandidateDecision, decision_as_json
from pipelines.registry.versions import MODEL, ModelVersion, all_versions
from pipelines.workspace.places import Workspace
from training.stage.files import write_whole


def decision_as_markdown(decision: CandidateDecision, versions: Sequence[ModelVersion] = ()) -> str:
    """The report for people."""
    against = f", against champion {decision.champion}." if decision.champion else "."
    lines = [
        f"# {MODEL} version {decision.version}: {decision.standing}",
        "",
        f"Model {decision.model_id}{against}",
        "",
        "| rule | measured | limit | passed |",
        "|---|---|---|---|",
    ]
    for rule in decision.rules:
        lines.append(f"| {rule.name} | {rule.value_text} | {rule.limit} | {'yes' if rule.passed else '**no**'} |")
    lines += ["", *decision.notes, ""]
    if versions:
        lines += ["## All versions", "", "| version | aliases | stands | against | share decided | data |"]
        lines += ["|---|---|---|---|---|---|"]
    for version in sorted(versions, key=lambda version: -version.version):
        tags = version.tags
        cells = [
            str(version.version),
            ", ".join(version.aliases),
            tags.get("candidate", "not decided"),
            tags.get("candidate_against", ""),
            tags.get("known.share_decided", ""),
            tags.get("data_version", "")[:12],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).rstrip() + "\n"


def write_report(workspace: Workspace, decision: CandidateDecision, versions: Sequence[ModelVersion]) -> str:
    """Write reports/candidate/decision.json and decision.md, each by rename; the latter's text."""
    folder = workspace.reports / "candidate"
    folder.mkdir(parents=True, exist_ok=True)
    text = decision_as_markdown(decision, versions)
    write_whole(folder / "decision.json", decision_as_json(decision) + "\n")
    write_whole(folder / "decision.md", text)
    return text


def tabulate_against_champion(workspace: Workspace, version: int, champion: int | None) -> list[str]:
    """A Markdown table of a version's headline figures and the champion's, where there is another champion."""
    tags = {registered.version: registered.tags for registered in all_versions(workspace)}
    figures, champions = tags[version], tags.get(champion or 0, {})
    names = sorted(name for name in figures if name.startswith(("known.", "new.")))
    title = f"champion, version {champion}" if champion else "no other champion"
    rows = [f"| {name} | {figures[name]} | {champions.get(name, '')} |" for name in names]
    return [f"| figure | version {version} | {title} |", "|---|---|---|", *rows]
