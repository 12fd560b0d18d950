"""Is a version good enough to challenge the champion? A decision with its reasons, as a report and as tags.

Floors hold for every version. Where there is a champion, the two are compared on the held-out pairs
that both have measured (pipelines/candidate/comparison.py; docs/decisions/0008 says why on those).
"""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipelines.candidate.decision import AS_GOOD, BETTER, FIRST, REFUSED, CandidateDecision, Rule
from pipelines.candidate.report import write_report
from pipelines.candidate.rules import check_against_champion, check_floors, check_golden_pairs
from pipelines.registry import artifacts, versions
from pipelines.registry.versions import CHALLENGER, CHAMPION, Registered
from pipelines.workspace.params import Candidate, read_application_params
from pipelines.workspace.places import Workspace
from training.stage.quiet import hushed


def decide_on_version(workspace: Workspace, registered: Registered) -> CandidateDecision:
    """Decide about a version; it gets the alias `challenger` where it is accepted and not the champion.

    The report goes to reports/candidate/ and to the version's page in MLflow, the outcome to the version's tags.
    Raises BadInput for params.yaml, VersionNotFound, RegistryUnreachable.
    """
    limits = read_application_params(workspace.params).candidate
    version, aliases = registered.version, versions.versions_by_alias(workspace)
    decision = _apply_rules(workspace, registered, aliases, limits)
    decision = dataclasses.replace(decision, basis=_basis(registered, aliases.get(CHAMPION), limits))
    outcome = {"candidate": decision.standing, "candidate_reason": str(decision)[:5000]}
    versions.set_tags(workspace, version, outcome | {"candidate_against": str(decision.champion or "")})
    if decision.accepted and versions.versions_by_alias(workspace).get(CHAMPION) != version:
        versions.promote(workspace, version, CHALLENGER)
    report = write_report(workspace, decision, versions.all_versions(workspace))
    versions.describe_version(workspace, version, report)
    return decision


def report_on_version(workspace: Workspace, registered: Registered) -> CandidateDecision:
    """What would be decided about a version now, with its report in reports/candidate/. In MLflow nothing changes.

    Raises BadInput for params.yaml, VersionNotFound, RegistryUnreachable.
    """
    limits = read_application_params(workspace.params).candidate
    decision = _apply_rules(workspace, registered, versions.versions_by_alias(workspace), limits)
    write_report(workspace, decision, versions.all_versions(workspace))
    return decision


def _apply_rules(
    workspace: Workspace, registered: Registered, aliases: Mapping[str, int], limits: Candidate
) -> CandidateDecision:
    version, champion = registered.version, aliases.get(CHAMPION)
    rules, notes = check_floors(versions.tags_of(workspace, version), limits)
    with tempfile.TemporaryDirectory() as folder, hushed():
        rules.append(check_golden_pairs(artifacts.download(workspace, version, Path(folder, "model"))))
        if champion in (None, version):
            notes.append("It is the champion." if champion else "There is no champion to compare it with.")
            champion, better = None, True
        else:
            compared, better = check_against_champion(workspace, version, champion, Path(folder), limits)
            rules += compared
    standing = FIRST if champion is None else BETTER if better else AS_GOOD
    if not all(rule.passed for rule in rules):
        standing = REFUSED
        if aliases.get(CHALLENGER) == version:
            notes.append("It keeps the alias `challenger`, which it has had: move or delete that by hand.")
    return CandidateDecision(version, registered.model_id, standing, rules, notes, champion)


def find_kept_decision(workspace: Workspace, registered: Registered) -> CandidateDecision | None:
    """The last decision of this workspace, where it was about the version and nothing that it depends on has changed.

    Raises BadInput for params.yaml, RegistryUnreachable.
    """
    limits = read_application_params(workspace.params).candidate
    try:
        kept = json.loads((workspace.reports / "candidate" / "decision.json").read_text())
        basis = kept["basis"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    if basis != _basis(registered, versions.versions_by_alias(workspace).get(CHAMPION), limits):
        return None
    del kept["accepted"]
    return CandidateDecision(**kept | {"rules": [Rule(**rule) for rule in kept["rules"]]})


def _basis(registered: Registered, champion: int | None, limits: Candidate) -> str:
    return json.dumps([registered.version, registered.model_id, champion, dataclasses.asdict(limits)])
