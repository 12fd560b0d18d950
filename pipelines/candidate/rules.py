"""What a version must reach: floors, golden pairs, and figures against the champion."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.candidate.comparison import Comparison, Rate, compare, error_rates, slowdown
from pipelines.candidate.decision import ROUNDING, Rule, at_least, at_most
from pipelines.registry import artifacts, evidence
from pipelines.workspace.params import Candidate
from pipelines.workspace.places import Workspace
from training.saved_model import assets


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
    from training.saved_model import loading
    from training.saved_model.golden import TOLERANCE, golden_difference

    with loading.load(saved_model_folder) as model:
        difference = golden_difference(model, assets.golden_pairs(saved_model_folder))
        return at_most("difference of the golden pairs", difference, TOLERANCE)


def beside(
    workspace: Workspace, version: int, champion: int, folder: Path, limits: Candidate
) -> tuple[list[Rule], bool]:
    """The rules for a version beside the champion, and whether it is better (or only as good).

    Both versions' files are fetched to `folder`, where they are not there yet.
    """
    models, kept = [], []
    for name, number in (("mine", version), ("theirs", champion)):
        model = folder / name / artifacts.ARTIFACT
        if not model.is_dir():
            model = artifacts.download(workspace, number, folder / name)
        found = artifacts.download_part(workspace, number, artifacts.EVIDENCE, folder / name)
        models.append(model)
        kept.append(found and evidence.read(found, assets.read_facts(model)))
    pictures = assets.golden_photos(models[0])
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


def _some(photos: Sequence[str]) -> str:
    return f" ({', '.join(photos[:3])}{', …' if len(photos) > 3 else ''})" if photos else ""
