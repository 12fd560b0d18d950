"""Is a version good enough to challenge the champion? A decision with its reasons, as a report and as tags.

Floors hold for every version. Where there is a champion, the two are held against each other on the held-out pairs
that both have measured (pipelines/candidate/comparison.py; docs/decisions/0008 says why on those).
"""

import dataclasses
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.candidate.comparison import Comparison, Rate, compare, error_rates, slowdown
from pipelines.candidate.report import write_report
from pipelines.registry import evidence, versions
from pipelines.registry.versions import CHALLENGER, CHAMPION, Registered
from pipelines.workspace.places import Workspace
from training.stage.params import Candidate, read_params
from training.stage.run import hushed

ROUNDING = 1e-6
"""Tags have six digits."""

BETTER, AS_GOOD, FIRST, REFUSED = "better", "as good and newer", "first", "refused"
"""How a version stands: beside the champion, or without one."""


@dataclass(frozen=True)
class Rule:
    """A rule and the number that it was held against; `limit` says it in words, such as "at least 0.9"."""

    name: str
    value: float | None
    limit: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.name} {self.told} ({self.limit})"

    @property
    def told(self) -> str:
        """The number as people read it."""
        if self.value is None:
            return "not measured"
        return f"{self.value:.1e}" if 0 < abs(self.value) < 5e-4 else f"{self.value:.3f}".removesuffix(".000")


@dataclass(frozen=True)
class Decision:
    """How a version stands, by which rules, and what was left out and why."""

    version: int
    model_id: str
    standing: str
    """BETTER, AS_GOOD, FIRST or REFUSED."""
    rules: Sequence[Rule]
    notes: Sequence[str] = ()
    champion: int | None = None
    """The champion that it was held against."""
    basis: str = ""
    """What it depends on: the version, the champion of the time and the limits; empty in a report alone."""

    @property
    def accepted(self) -> bool:
        """Whether it may challenge the champion."""
        return self.standing != REFUSED

    def __str__(self) -> str:
        if self.accepted:
            beside = f"{self.standing}, beside champion {self.champion}" if self.champion else "good enough"
            return f"version {self.version} is {beside}: " + ", ".join(map(str, self.rules))
        broken = [str(rule) for rule in self.rules if not rule.passed]
        return f"version {self.version} is not good enough: " + ", ".join(broken)


def decide(workspace: Workspace, registered: Registered) -> Decision:
    """Decide about a version; it gets the alias `challenger` where it is accepted and not the champion.

    The report goes to reports/candidate/ and to the version's page in MLflow, the outcome to the version's tags.
    Raises BadInput for params.yaml, VersionNotFound, RegistryUnreachable.
    """
    limits = read_params(workspace.params).candidate
    version, aliases = registered.version, versions.versions_by_alias(workspace)
    decision = _judged(workspace, registered, aliases, limits)
    decision = dataclasses.replace(decision, basis=_basis(registered, aliases.get(CHAMPION), limits))
    outcome = {"candidate": decision.standing, "candidate_reason": str(decision)[:5000]}
    versions.set_tags(workspace, version, outcome | {"candidate_beside": str(decision.champion or "")})
    if decision.accepted and versions.versions_by_alias(workspace).get(CHAMPION) != version:
        versions.promote(workspace, version, CHALLENGER)
    report = write_report(workspace, decision, versions.all_versions(workspace))
    versions.describe(workspace, version, report)
    return decision


def report(workspace: Workspace, registered: Registered) -> Decision:
    """What would be decided about a version now, with its report in reports/candidate/. In MLflow nothing changes.

    Raises BadInput for params.yaml, VersionNotFound, RegistryUnreachable.
    """
    limits = read_params(workspace.params).candidate
    decision = _judged(workspace, registered, versions.versions_by_alias(workspace), limits)
    write_report(workspace, decision, versions.all_versions(workspace))
    return decision


def _judged(workspace: Workspace, registered: Registered, aliases: Mapping[str, int], limits: Candidate) -> Decision:
    version, champion = registered.version, aliases.get(CHAMPION)
    rules, notes = floors(versions.tags_of(workspace, version), limits)
    with tempfile.TemporaryDirectory() as folder, hushed():
        mine = versions.download(workspace, version, Path(folder, "mine"))
        rules.append(golden(mine))
        if champion in (None, version):
            notes.append("It is the champion." if champion else "There is no champion to compare it with.")
            champion, better = None, True
        else:
            found, better = beside(workspace, version, champion, Path(folder), limits)
            rules += found
    standing = FIRST if champion is None else BETTER if better else AS_GOOD
    if not all(rule.passed for rule in rules):
        standing = REFUSED
        if aliases.get(CHALLENGER) == version:
            notes.append("It keeps the alias `challenger`, which it has had: move or delete that by hand.")
    return Decision(version, registered.model_id, standing, rules, notes, champion)


def known(workspace: Workspace, registered: Registered) -> Decision | None:
    """The last decision of this workspace, where it was about the version and nothing that it depends on has changed.

    Raises BadInput for params.yaml, RegistryUnreachable.
    """
    limits = read_params(workspace.params).candidate
    try:
        kept = json.loads((workspace.reports / "candidate" / "decision.json").read_text())
        basis = kept["basis"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    if basis != _basis(registered, versions.versions_by_alias(workspace).get(CHAMPION), limits):
        return None
    del kept["accepted"]
    return Decision(**kept | {"rules": [Rule(**rule) for rule in kept["rules"]]})


def _basis(registered: Registered, champion: int | None, limits: Candidate) -> str:
    return json.dumps([registered.version, registered.model_id, champion, dataclasses.asdict(limits)])


def floors(tags: Mapping[str, str], limits: Candidate) -> tuple[list[Rule], list[str]]:
    """The rules for a version with these tags that need no champion, and notes on rules that do not apply."""

    def figure(name: str) -> float | None:
        return float(tags[name]) if name in tags else None

    rules = [
        at_least("AUC of known products", figure("known.auc"), limits.min_auc),
        at_most("EER of known products", figure("known.eer"), limits.max_eer),
        at_least("share decided without a person", figure("known.share_decided"), limits.min_share_decided),
    ]
    if "new.auc" in tags:
        return [*rules, at_least("AUC of new products", figure("new.auc"), limits.min_new_auc)], []
    return rules, ["No new products were measured."]


def golden(saved_model_folder: Path) -> Rule:
    """That the SavedModel, as MLflow has it, reproduces the scores that evaluation measured."""
    from training.evaluation.golden_pairs import TOLERANCE, deviation
    from training.saved_model import loading

    wanted = json.loads((saved_model_folder / "assets.extra" / "golden.json").read_text())
    with loading.load(saved_model_folder) as model:
        return at_most("deviation of the golden pairs", deviation(model, wanted), TOLERANCE)


def beside(
    workspace: Workspace, version: int, champion: int, folder: Path, limits: Candidate
) -> tuple[list[Rule], bool]:
    """The rules for a version beside the champion, and whether it is better (or only as good).

    Both versions' files are fetched to `folder`, where they are not there yet.
    """
    models, kept = [], []
    for name, number in (("mine", version), ("theirs", champion)):
        model = folder / name / versions.ARTIFACT
        if not model.is_dir():
            model = versions.download(workspace, number, folder / name)
        found = versions.download_part(workspace, number, versions.EVIDENCE, folder / name)
        models.append(model)
        kept.append(found and evidence.read(found, versions.read_facts(model)))
    pictures = versions.golden_pictures(models[0])
    rules = [
        at_most(
            "encoding, times as long as the champion's", slowdown(models[0], models[1], pictures), limits.max_slowdown
        )
    ]
    mine, theirs = kept
    if mine is None or theirs is None:
        lacks = champion if theirs is None else version
        return [*rules, Rule("held-out pairs", None, f"version {lacks} keeps none to compare", False)], False
    compared = compare(mine, theirs, limits)
    return judge(compared, error_rates(mine, limits), limits, newer=version > champion, rules=rules)


def judge(
    compared: Comparison, rates: tuple[Rate, Rate], limits: Candidate, newer: bool, rules: Sequence[Rule] = ()
) -> tuple[list[Rule], bool]:
    """The rules beside the champion, after those given, and whether the version is better (or only as good)."""
    rules = [
        *rules,
        at_most(f"held-out photos that either trained on{_some(compared.trained_on)}", len(compared.trained_on), 0),
        at_least("held-out photos that both have measured", compared.photos, limits.min_photos),
    ]
    for name, rate in zip(("false accepts", "false rejects"), rates, strict=True):
        limit = f"at most {rate.stated:g} within its interval, which begins at {rate.low:.3g}"
        rules.append(Rule(f"{name} observed", rate.observed, limit, rate.low <= rate.stated + ROUNDING))
    share = compared.share_decided
    if share is None:
        return [
            *rules,
            Rule("share decided beside the champion's", None, "needs pairs that neither trained on", False),
        ], False
    change = f"{share.mine:.3f} beside the champion's {share.theirs:.3f}"
    rules.append(at_least(f"share decided, {change}: lower bound of the difference", share.low, -limits.max_share_lost))
    if compared.categories:
        name, photos, worst = compared.categories[0]
        told = f"decided rightly in the worst category beside the champion ({name}, {photos} photos)"
        rules.append(at_least(told, worst.mine - worst.theirs, -limits.max_category_lost))
    better = share.low > 0
    if not better and not newer:
        rules.append(Rule("newer than the champion", None, "an older version must be better", False))
    return rules, better


def at_least(name: str, value: float | None, limit: float) -> Rule:
    """A rule that a number must reach."""
    passed = value is not None and not math.isnan(value) and value >= limit - ROUNDING
    return Rule(name, value, f"at least {limit:g}", passed)


def at_most(name: str, value: float | None, limit: float) -> Rule:
    """A rule that a number must not exceed."""
    return Rule(name, value, f"at most {limit:g}", value is not None and value <= limit + ROUNDING)


def as_json(decision: Decision) -> str:
    """The decision for programs."""
    return json.dumps(dataclasses.asdict(decision) | {"accepted": decision.accepted}, indent=1)


def _some(photos: Sequence[str]) -> str:
    return f" ({', '.join(photos[:3])}{', …' if len(photos) > 3 else ''})" if photos else ""
