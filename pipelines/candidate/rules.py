"""What a version must reach: floors, golden pairs, and figures against the champion."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.candidate.comparison import (
    Comparison,
    ErrorRate,
    compare_evidence,
    measure_error_rates,
    measure_slowdown,
)
from pipelines.candidate.decision import ROUNDING, Rule, at_least, at_most
from pipelines.registry import artifacts
from pipelines.registry.evidence import read_evidence
from pipelines.workspace.params import Candidate
from pipelines.workspace.places import Workspace
from training.saved_model import assets


def check_floors(tags: Mapping[str, str], limits: Candidate) -> tuple[list[Rule], list[str]]:
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


def check_golden_pairs(saved_model_folder: Path) -> Rule:
    """That the SavedModel, as MLflow has it, reproduces the scores that evaluation measured."""
    from training.saved_model import loading
    from training.saved_model.golden import TOLERANCE, golden_difference

    with loading.load(saved_model_folder) as model:
        difference = golden_difference(model, assets.golden_pairs(saved_model_folder))
        return at_most("difference of the golden pairs", difference, TOLERANCE)


def check_against_champion(
    workspace: Workspace, version: int, champion: int, folder: Path, limits: Candidate
) -> tuple[list[Rule], bool]:
    """The rules for a version against the champion, and whether it is better (or only as good).

    Both versions' files are fetched to `folder`/model and `folder`/champion, unless the SavedModel is there already.
    """
    models, evidence = [], []
    for name, number in (("model", version), ("champion", champion)):
        model = folder / name / artifacts.ARTIFACT
        if not model.is_dir():
            model = artifacts.download(workspace, number, folder / name)
        kept = artifacts.download_part(workspace, number, artifacts.EVIDENCE, folder / name)
        models.append(model)
        evidence.append(kept and read_evidence(kept, assets.read_facts(model)))
    slowdown = measure_slowdown(models[0], models[1], assets.golden_photos(models[0]))
    rules = [at_most("encoding, times as long as the champion's", slowdown, limits.max_slowdown)]
    of_model, of_champion = evidence
    if of_model is None or of_champion is None:
        lacking = champion if of_champion is None else version
        return [*rules, Rule("held-out pairs", None, f"version {lacking} keeps none to compare", False)], False
    comparison, rates = compare_evidence(of_model, of_champion, limits), measure_error_rates(of_model, limits)
    compared, better = check_comparison(comparison, rates, limits, newer=version > champion)
    return rules + compared, better


def check_comparison(
    comparison: Comparison, rates: tuple[ErrorRate, ErrorRate], limits: Candidate, newer: bool
) -> tuple[list[Rule], bool]:
    """The rules on a comparison with the champion, and whether the version is better (or only as good).

    `rates` are the version's own false accepts and false rejects; `newer`: it is newer than the champion.
    """
    trained_on = comparison.trained_on
    rules = [
        at_most(f"held-out photos that either trained on{_name_some(trained_on)}", len(trained_on), 0),
        at_least("held-out photos that both have measured", comparison.photos, limits.min_photos),
    ]
    for name, rate in zip(("false accepts", "false rejects"), rates, strict=True):
        limit = f"at most {rate.stated:g} within its interval, which begins at {rate.low:.3g}"
        rules.append(Rule(f"{name} observed", rate.observed, limit, rate.low <= rate.stated + ROUNDING))
    share = comparison.share_decided
    if share is None:
        needs = "needs pairs that neither trained on"
        return [*rules, Rule("share decided against the champion's", None, needs, False)], False
    shares = f"{share.model:.3f} against the champion's {share.champion:.3f}"
    rules.append(at_least(f"share decided, {shares}: lower bound of the difference", share.low, -limits.max_share_lost))
    if comparison.categories:
        category, photos, worst = comparison.categories[0]
        name = f"decided rightly in the worst category against the champion ({category}, {photos} photos)"
        rules.append(at_least(name, worst.difference, -limits.max_category_lost))
    better = share.low > 0
    if not better and not newer:
        rules.append(Rule("newer than the champion", None, "an older version must be better", False))
    return rules, better


def _name_some(photos: Sequence[str]) -> str:
    return f" ({', '.join(photos[:3])}{', …' if len(photos) > 3 else ''})" if photos else ""
