"""Is a version good enough to challenge the champion? A decision with its reasons, as a report and as tags."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines import registry
from pipelines.registry import CHALLENGER, CHAMPION, Registered
from pipelines.workspace import Workspace
from training.config import Candidate, read_params

ROUNDING = 1e-6
"""Tags have six digits."""


@dataclass(frozen=True)
class Rule:
    """A rule and the number that it was held against; `limit` says it in words, such as "at least 0.9"."""

    name: str
    value: float | None
    limit: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.name} {'not measured' if self.value is None else f'{self.value:.3f}'} ({self.limit})"


@dataclass(frozen=True)
class Decision:
    """Whether a version is a candidate, by which rules, and what was left out and why."""

    version: int
    model_id: str
    accepted: bool
    rules: Sequence[Rule]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        if self.accepted:
            return f"version {self.version} is good enough: " + ", ".join(map(str, self.rules))
        broken = [str(rule) for rule in self.rules if not rule.passed]
        return f"version {self.version} is not good enough: " + ", ".join(broken)


def decide(workspace: Workspace, registered: Registered) -> Decision:
    """Decide by the tags of the version; it gets the alias `challenger` where it is accepted and not the champion.

    The report goes to reports/candidate/ and the outcome to the version's tags. Raises BadInput for params.yaml,
    VersionNotFound, RegistryUnreachable.
    """
    limits = read_params(workspace.params).candidate
    version = registered.version
    tags = registry.tags_of(workspace, version)
    champion = registry.versions_by_alias(workspace).get(CHAMPION)
    rivals = registry.tags_of(workspace, champion) if champion not in (None, version) else None
    rules, notes = judge(tags, rivals, limits)
    if champion == version:
        notes = [*notes, "It is the champion."]
    elif champion and rivals:
        notes = [*notes, f"The champion is version {champion}."]
    decision = Decision(version, registered.model_id, all(rule.passed for rule in rules), rules, notes)
    _write_report(workspace, decision)
    outcome = "accepted" if decision.accepted else "refused"
    registry.set_tags(workspace, version, {"candidate": outcome, "candidate_reason": str(decision)})
    if decision.accepted and champion != version:
        registry.promote(workspace, version, CHALLENGER)
    return decision


def judge(
    tags: Mapping[str, str], champion: Mapping[str, str] | None, limits: Candidate
) -> tuple[list[Rule], list[str]]:
    """The rules for a version with these tags, and notes on rules that do not apply.

    A version is not compared with a champion that was measured on other data.
    """

    def figure(of: Mapping[str, str], name: str) -> float | None:
        return float(of[name]) if name in of else None

    def at_least(name: str, value: float | None, limit: float, why: str = "") -> Rule:
        return Rule(name, value, f"at least {limit:g}{why}", value is not None and value >= limit - ROUNDING)

    def at_most(name: str, value: float | None, limit: float) -> Rule:
        return Rule(name, value, f"at most {limit:g}", value is not None and value <= limit + ROUNDING)

    share = figure(tags, "known.share_decided")
    rules = [
        at_least("AUC of known products", figure(tags, "known.auc"), limits.min_auc),
        at_most("EER of known products", figure(tags, "known.eer"), limits.max_eer),
        at_least("share decided without a person", share, limits.min_share_decided),
    ]
    notes = []
    if "new.auc" in tags:
        rules.append(at_least("AUC of new products", figure(tags, "new.auc"), limits.min_new_auc))
    else:
        notes.append("No new products were measured.")
    if champion is not None:
        theirs = figure(champion, "known.share_decided")
        if theirs is None or tags.get("data_version") != champion.get("data_version"):
            notes.append("Not compared with the champion, which was measured on another data version.")
        else:
            why = f", the champion's {theirs:.3f} less {limits.max_share_lost:g}"
            rules.append(at_least("share decided beside the champion's", share, theirs - limits.max_share_lost, why))
    return rules, notes


def as_markdown(decision: Decision) -> str:
    """The report for people."""
    lines = [
        f"# {registry.MODEL} version {decision.version}: {'accepted' if decision.accepted else 'refused'}",
        "",
        f"Model {decision.model_id}.",
        "",
        "| rule | measured | limit | passed |",
        "|---|---|---|---|",
    ]
    for rule in decision.rules:
        value = "not measured" if rule.value is None else f"{rule.value:.4f}"
        lines.append(f"| {rule.name} | {value} | {rule.limit} | {'yes' if rule.passed else '**no**'} |")
    return "\n".join([*lines, "", *decision.notes, ""])


def _write_report(workspace: Workspace, decision: Decision) -> None:
    folder = workspace.reports / "candidate"
    folder.mkdir(parents=True, exist_ok=True)
    files = {"decision.json": json.dumps(dataclasses.asdict(decision), indent=1) + "\n"}
    files["decision.md"] = as_markdown(decision)
    for name, text in files.items():
        part = folder / f"{name}.part"
        part.write_text(text)
        part.replace(folder / name)
