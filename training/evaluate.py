"""Calibrate on the validation photos, measure on the test photos, and write it all down.

    python -m training.evaluate        (or: dvc repro evaluate)

Each photo is held against every original of the data version. Writes models/decision/ (what export makes part of
the model: cohort.npz, decision.json, golden.json, headline.json) and reports/evaluation/ (metrics.json,
summary.json, curves as CSV, pairs.parquet, table.md, PNGs, report.html), and logs figures and pictures to the
training's MLflow run.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.dataset.draws import hash_to_unit
from training.dataset.manifest import read_manifest
from training.dataset.splits import assign_splits
from training.decision.decision import Decision
from training.decision.log_ratio import Cohort, Floats, LogRatio, with_pivot
from training.evaluation.baselines import baseline_scores, read_features
from training.evaluation.calibrate import calibrate, reliability, threshold_intervals
from training.evaluation.curves import write_curves
from training.evaluation.embedding import embed
from training.evaluation.explain import PairScorer
from training.evaluation.golden_pairs import choose_golden_pairs
from training.evaluation.metrics import decisions, identification, separation
from training.evaluation.pairs import Pairs, by_group, compare, hard_figures, in_team_mix, measure, table
from training.evaluation.plain_autoencoder import plain_encoder
from training.evaluation.slices import slice_figures
from training.model.autoencoder import load
from training.report import baseline_table
from training.report.baseline_table import Methods
from training.report.illustrate import illustrate
from training.report.numbers import percent
from training.report.page import render
from training.saved_model.assets import write_golden
from training.stage import tracking
from training.stage.errors import BadInput
from training.stage.files import replacing
from training.stage.params import Evaluate, Params
from training.stage.places import (
    ACCEPTED,
    AUTOENCODER,
    COHORT_FILE,
    DATA,
    DECISION,
    DECISION_FILE,
    EVALUATION,
    GOLDEN_FILE,
    HEADLINE_FILE,
    METRICS_FILE,
    PAIRS_FILE,
    REPORT_FILE,
    RUN,
    SUMMARY_FILE,
    TABLE_FILE,
)
from training.stage.run import run_stage


@dataclass(frozen=True)
class EvaluateReport:
    """What the stage measured."""

    metrics: dict[str, Any]
    where: Path = EVALUATION / REPORT_FILE

    def __str__(self) -> str:
        figures = [
            f"{name} AUC {self.metrics[name]['auc']:.3f}, TAR at 1 % {self.metrics[name]['tar_at_far_1pct']:.2f}, "
            f"decided {percent(self.metrics[name]['share_decided'])}"
            for name in ("known", "new")
            if name in self.metrics
        ]
        return f"{self.metrics['counts']['pairs']:,} test pairs: {'; '.join(figures)}"


def evaluate(root: Path, params: Params) -> EvaluateReport:
    """Evaluate models/autoencoder on the accepted pictures. Raises BadInput where the input is at fault."""
    settings = params.evaluate
    pictures = assign_splits(read_manifest(root / ACCEPTED), params.split)
    autoencoder = load(root / AUTOENCODER)
    originals, validation, test = chosen_pictures(pictures, settings.pairs_max)

    rows = pd.concat([originals, validation, test])
    files = [root / DATA / path for path in rows.path]
    vectors = embed(autoencoder.encoder, files, settings.batch, params.workers)
    of_originals, of_validation, of_test = np.split(vectors, np.cumsum([len(originals), len(validation)]))
    in_cohort = cohort_rows(originals, settings.cohort_max)
    training = pictures.query("known and split == 'train'")
    trained = originals.product_id.isin(training.query("role == 'photo'").product_id).to_numpy(bool)
    cohort = Cohort(of_originals[in_cohort], trained[in_cohort], originals.product_id.to_numpy(str)[in_cohort])

    formula = LogRatio(settings.temperature, settings.own_copy_cosine, settings.trained_stretch)
    own = pd.Index(originals.product_id).get_indexer(validation.product_id)
    formula = with_pivot(formula, np.vecdot(of_validation, of_originals[own])[trained[own]])
    validated = compare(validation, originals, of_validation, of_originals, cohort, formula)
    decision = decide(validated, settings, formula, tracking.data_version(root))
    tested = compare(test, originals, of_test, of_originals, cohort, formula)
    baselines = baselines_of(root, training, test, originals, params)
    metrics = measure_all(validated, tested, decision, baselines, settings)
    scorer = PairScorer(autoencoder, cohort, decision)
    methods = Methods(autoencoder.train, settings.baseline_epochs)

    with replacing(root / DECISION) as folder:
        cohort.write(folder / COHORT_FILE)
        decision.write(folder / DECISION_FILE)
        golden = choose_golden_pairs(root / DATA, tested, of_originals, of_test, decision, settings.golden_pairs)
        write_golden(folder / GOLDEN_FILE, golden)
        _write_json(folder / HEADLINE_FILE, headline(metrics))
    with replacing(root / EVALUATION) as folder:
        _write_json(folder / METRICS_FILE, metrics)
        _write_json(folder / SUMMARY_FILE, summary(metrics))
        write_curves(folder, tested, decision)
        pq.write_table(
            pa.concat_tables([table(pairs, decision) for pairs in (validated, tested)]),
            folder / PAIRS_FILE,
            compression="zstd",
        )
        (folder / TABLE_FILE).write_text(baseline_table.markdown(metrics, methods))
        pictures = illustrate(folder, root / DATA, scorer, tested, baselines)
        page = render(metrics, decision, methods, pictures, facts(root, decision, cohort))
        (folder / REPORT_FILE).write_text(page)
    with tracking.run(root, resume=True):
        import mlflow

        mlflow.log_metrics(flatten({key: value for key, value in metrics.items() if key != "slices"}))
        mlflow.log_artifacts(str(root / EVALUATION), "evaluation")
    return EvaluateReport(metrics)


def chosen_pictures(pictures: pd.DataFrame, pairs_max: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All originals, and the photos that validate and that test, as far as `pairs_max` pairs each reach.

    Photos whose product has no original (it may be in quarantine) are left out: there is nothing to hold them
    against. Which photos go where there are too many is a hash of their ids.
    """
    originals = pictures.query("role == 'original'")
    photos = pictures.query("role == 'photo'").query("product_id in @originals.product_id")
    count = max(1, pairs_max // max(1, len(originals)))
    validation, test = (_draw_by_hash(photos.query("split == @split"), count) for split in ("validation", "test"))
    for split, chosen in (("validation", validation), ("test", test)):
        if chosen.empty or len(originals) < 2:
            raise BadInput(
                f"the {split} split has {len(chosen)} photos and the data {len(originals)} originals to hold them "
                "against: evaluation needs photos and two originals; see reports/validation/quarantine.parquet"
            )
    return originals, validation, test


def cohort_rows(originals: pd.DataFrame, cohort_max: int) -> NDArray[np.intp]:
    """Which originals (rows, ascending) a claim is judged against: all, or `cohort_max` of them by hash."""
    order = np.argsort([hash_to_unit("cohort", str(product)) for product in originals.product_id], kind="stable")
    return np.sort(order[:cohort_max])


def baselines_of(
    root: Path, training: pd.DataFrame, photos: pd.DataFrame, originals: pd.DataFrame, params: Params
) -> dict[str, Floats]:
    """Score matrices [P, J] of what the model has to beat, by name; the data frames are manifest rows."""
    of_photos, of_originals = ([root / DATA / path for path in rows.path] for rows in (photos, originals))
    scores = baseline_scores(read_features(of_photos), read_features(of_originals))
    epochs = params.evaluate.baseline_epochs
    if epochs > 0:
        encoder = plain_encoder(root, training, epochs)
        vectors = embed(encoder, [*of_photos, *of_originals], params.evaluate.batch, params.workers)
        scores["plain_autoencoder"] = vectors[: len(photos)] @ vectors[len(photos) :].T
    return scores


def decide(validated: Pairs, settings: Evaluate, formula: LogRatio, data_version: str | None) -> Decision:
    """Calibration and thresholds from the validation pairs, known and new products together."""
    return calibrate(
        validated.log_ratio.ravel(),
        validated.genuine.ravel(),
        formula=formula,
        prior_match=settings.prior_match,
        false_accept_rate=settings.false_accept_rate,
        false_reject_rate=settings.false_reject_rate,
        data_version=data_version,
    )


def measure_all(
    validated: Pairs, tested: Pairs, decision: Decision, baselines: dict[str, Floats], settings: Evaluate
) -> dict[str, Any]:
    """The contents of metrics.json: test pairs by group and slice, baselines, and what the thresholds were set on."""
    _, error = reliability(*in_team_mix(tested, decision))
    probability = decision.probability(validated.log_ratio)
    return {
        **by_group(tested, lambda group, _: measure(group, decision, settings.bootstrap)),
        "baselines": {
            name: by_group(
                tested,
                lambda group, rows, scores=scores: (
                    identification(scores[rows], group.truth) | hard_figures(group, scores[rows])
                ),
            )
            for name, scores in baselines.items()
        },
        "validation": separation(validated.log_ratio.ravel(), validated.genuine.ravel())
        | decisions(probability, validated.genuine, decision.accept_at, decision.reject_at, decision.prior_match),
        "calibration": {
            "expected_calibration_error": error,
            "accept_at": decision.accept_at,
            "reject_at": decision.reject_at,
            "slope": decision.slope,
            "intercept": decision.intercept,
            "temperature": decision.formula.temperature,
            "stretch": decision.formula.stretch,
            "pivot": decision.formula.pivot,
            "interval": threshold_intervals(
                probability,
                validated.genuine,
                validated.photos.product_id.to_numpy(),
                decision.false_accept_rate,
                decision.false_reject_rate,
                settings.bootstrap,
            ),
        },
        "slices": slice_figures(tested, decision),
        "counts": {
            "originals": len(tested.originals),
            "photos": len(tested.photos),
            "pairs": tested.similarity.size,
            "validation_photos": len(validated.photos),
        },
    }


def headline(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The few figures that travel with the model."""
    keys = ("auc", "eer", "tar_at_far_1pct", "top1", "share_decided", "false_accept_rate", "false_reject_rate")
    return {name: {key: metrics[name][key] for key in keys} for name in ("known", "new") if name in metrics}


def summary(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The contents of summary.json: what `dvc metrics` shows and compares."""
    keys = ("expected_calibration_error", "accept_at", "reject_at")
    return headline(metrics) | {"calibration": {key: metrics["calibration"][key] for key in keys}}


def facts(root: Path, decision: Decision, cohort: Cohort) -> dict[str, str]:
    """What a reader needs to know which model and data the page is about."""
    run = json.loads((root / RUN).read_text())
    return {
        "data version": decision.data_version or "none: there is no data.dvc",
        "MLflow run": run["run_id"],
        "judged against": f"a cohort of {len(cohort.trained)} originals, T = {decision.formula.temperature:g}; "
        f"{cohort.trained.sum()} of products that trained, stretched by {decision.formula.stretch:g}"
        if len(cohort.trained)
        else "no cohort (plain cosine)",
        "accept_at": f"{decision.accept_at:.6g}",
        "reject_at": f"{decision.reject_at:.6g}",
    }


def flatten(metrics: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested figures as MLflow takes them: {"known/auc": 0.99, …}."""
    flat: dict[str, float] = {}
    for key, value in metrics.items():
        flat |= flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else {prefix + key: float(value)}
    return flat


def _draw_by_hash(photos: pd.DataFrame, count: int) -> pd.DataFrame:
    order = np.argsort([hash_to_unit("pairs", str(photo)) for photo in photos.picture_id], kind="stable")
    return photos.iloc[np.sort(order[:count])]


def _write_json(path: Path, contents: dict[str, Any]) -> None:
    path.write_text(json.dumps(contents, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    run_stage("evaluate", evaluate)
