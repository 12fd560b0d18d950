"""What each choice in params.yaml is worth: trains and evaluates rows of ablation.yaml on a workspace's data.

    python -m benchmarks.ablation --workspace .photoproof/grocery --seeds 1 2 [--rows "as set" "no reconstruction"]

Each row and seed has a folder under .photoproof/ablation/DATA/ in the workspace (DATA: of the accepted pictures), and
is not trained again where the folder holds its result. The table goes to reports/ablation.md. A row that fails stays in
it, with its reason, and is retried the next time.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from training.stage.errors import BadInput
from training.stage.files import write_whole
from training.stage.params import Params, read_params
from training.stage.places import (
    ACCEPTED,
    AUTOENCODER,
    BASELINES,
    DATA,
    DATA_VERSION,
    EVALUATION,
    METRICS_FILE,
    PARAMS,
    REPORTS,
    STATE,
    VALIDATION,
)
from training.stage.quiet import hushed
from training.stage.tracking import tracking_uri

with hushed():  # it imports TensorFlow
    from training.model.autoencoder import FACTS

ROWS = Path(__file__).with_name("ablation.yaml")
FIRST = "as set"
FIGURES = [
    ("known", "auc", "AUC"),
    ("known", "eer", "EER"),
    ("known", "tar_at_far_1pct", "TAR at 1 %"),
    ("known", "top1", "top-1"),
    ("known", "hard", "hard AUC"),
    ("new", "auc", "AUC"),
    ("new", "eer", "EER"),
    ("new", "tar_at_far_1pct", "TAR at 1 %"),
    ("new", "top1", "top-1"),
]


@dataclass(frozen=True)
class AblationResult:
    """The result of a row with a seed: its figures in the order of FIGURES, or the error."""

    figures: tuple[float, ...] = ()
    minutes: float = float("nan")
    """Of training; NaN where the model was trained before."""
    error: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Run the rows, print the table and write it; 0 also where rows failed, for that is a result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path("."), help="where photoproof retrain has run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", nargs="+", help="names in benchmarks/ablation.yaml; by default all")
    options = parser.parse_args(arguments)
    try:
        table = ablation(options.workspace.resolve(), options.seeds, options.rows)
    except BadInput as error:
        print(f"ablation: {error}", file=sys.stderr)
        return error.exit_code
    print(table, end="")
    return 0


def ablation(root: Path, seeds: list[int], names: list[str] | None) -> str:
    """The table in Markdown, also written to reports/ablation.md. Raises BadInput."""
    base = read_params(root / PARAMS)
    rows: dict[str, dict[str, Any]] = yaml.safe_load(ROWS.read_text())[base.train.encoder]
    for name in names or []:
        if name not in rows:
            raise BadInput(f"{ROWS.name} has no row {name!r} for {base.train.encoder}: it has {', '.join(rows)}")
    if not (root / ACCEPTED).is_file():
        raise BadInput(f"{root} has no accepted pictures: run `photoproof retrain` there first")
    results: dict[str, list[AblationResult]] = {}
    for name in names or rows:
        for seed in seeds:
            params = _changed(base, {**rows[name], "train.seed": seed})
            print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
            results.setdefault(name, []).append(_run(root, params))
    table = as_markdown(results, seeds)
    write_whole(root / REPORTS / "ablation.md", table)
    return table


def as_markdown(results: dict[str, list[AblationResult]], seeds: list[int]) -> str:
    """Rows with the mean of the seeds, and half the distance between the best and the worst after ±."""
    heads = [f"{group}: {head}" if column in (0, 5) else head for column, (group, _, head) in enumerate(FIGURES)]
    lines = [
        f"Seeds {', '.join(map(str, seeds))}: mean ± half the range. Test photos, each against every original.",
        "",
        f"| what | minutes | {' | '.join(heads)} |",
        "|---|" + "---|" * (1 + len(FIGURES)),
    ]
    for name, of_seeds in results.items():
        errors = {result.error for result in of_seeds if result.error}
        figures = np.array([result.figures for result in of_seeds if not result.error])
        if not len(figures):
            lines.append(f"| {name} | failed: {'; '.join(sorted(errors))} |" + " |" * len(FIGURES))
            continue
        minutes = [result.minutes for result in of_seeds if np.isfinite(result.minutes)]
        mean_minutes = f"{np.mean(minutes):.0f}" if minutes else ""
        spread = (figures.max(0) - figures.min(0)) / 2
        cells = [f"{mean:.3f} ± {half:.3f}" for mean, half in zip(figures.mean(0), spread, strict=True)]
        note = f" (a seed failed: {'; '.join(sorted(errors))})" if errors else ""
        lines.append(f"| {name}{note} | {mean_minutes} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _changed(params: Params, changes: dict[str, Any]) -> Params:
    for key, value in changes.items():
        part, name = key.split(".")
        section = getattr(params, part)
        value = float(value) if isinstance(getattr(section, name), float) else value
        params = dataclasses.replace(params, **{part: dataclasses.replace(section, **{name: value})})
    return params


def _run(root: Path, params: Params) -> AblationResult:
    settings = json.dumps(dataclasses.asdict(params), sort_keys=True)
    data = hashlib.sha256((root / ACCEPTED).read_bytes()).hexdigest()
    folder = root / STATE / "ablation" / data[:12] / hashlib.sha256(settings.encode()).hexdigest()[:12]
    kept = folder / "result.json"
    if kept.is_file():
        contents = json.loads(kept.read_text())
        return AblationResult(tuple(contents["figures"]), contents["minutes"])
    _prepare(root, folder, params)
    result = _train_and_evaluate(root, folder, params)
    if not result.error:
        write_whole(kept, json.dumps(dataclasses.asdict(result)) + "\n")
    return result


def _prepare(root: Path, folder: Path, params: Params) -> None:
    (folder / VALIDATION).mkdir(parents=True, exist_ok=True)
    (folder / STATE).mkdir(exist_ok=True)
    for name in (DATA, BASELINES):  # the same for every row
        (root / name).mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            (folder / name).symlink_to(root / name)
    for name in (DATA_VERSION, ACCEPTED):
        if (root / name).is_file():
            shutil.copyfile(root / name, folder / name)
    (folder / PARAMS).write_text(yaml.safe_dump(dataclasses.asdict(params)))


def _train_and_evaluate(root: Path, folder: Path, params: Params) -> AblationResult:
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri(root)}
    minutes = float("nan")
    trained = _model_of(root, folder, params)
    if trained:
        if trained != folder / AUTOENCODER:  # its own, where evaluation failed
            shutil.copytree(trained, folder / AUTOENCODER, dirs_exist_ok=True)
        facts = json.loads((trained / FACTS).read_text()) | {"train": dataclasses.asdict(params.train)}
        (folder / AUTOENCODER / FACTS).write_text(json.dumps(facts))
    started = time.monotonic()
    for stage in ("evaluate",) if trained else ("train", "evaluate"):
        command = [sys.executable, "-m", f"training.{stage}"]
        done = subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            return AblationResult(error=(done.stderr.strip().splitlines() or ["no message"])[-1])
        if stage == "train":
            minutes = (time.monotonic() - started) / 60
    metrics = json.loads((folder / EVALUATION / METRICS_FILE).read_text())
    return AblationResult(tuple(_figure(metrics, group, key) for group, key, _ in FIGURES), minutes)


def _figure(metrics: dict[str, Any], group: str, key: str) -> float:
    figure = metrics.get(group, {}).get(key, float("nan"))
    return float(figure["auc"] if isinstance(figure, dict) else figure)


def _model_of(root: Path, folder: Path, params: Params) -> Path | None:
    """A model trained with these params on the same pictures, in the workspace or for another row.

    Its fixed_weight may be another, for that enters no gradient; but 0 builds another network.
    """

    def as_trained(train: dict[str, Any]) -> dict[str, Any]:
        return train | {"fixed_weight": train["fixed_weight"] > 0}

    wanted = as_trained(dataclasses.asdict(params.train))
    models = [folder / AUTOENCODER, *folder.parent.glob(f"*/{AUTOENCODER}")]
    if _is_trained_on_accepted(root):
        models.append(root / AUTOENCODER)
    for model in models:
        facts = model / FACTS
        if facts.is_file() and as_trained(json.loads(facts.read_text())["train"]) == wanted:
            return model
    return None


def _is_trained_on_accepted(root: Path) -> bool:
    """Whether dvc.lock says that the workspace's model was trained on the pictures that are accepted now."""
    lock = root / "dvc.lock"
    stages = yaml.safe_load(lock.read_text())["stages"] if lock.is_file() else {}
    md5 = hashlib.md5((root / ACCEPTED).read_bytes(), usedforsecurity=False).hexdigest()
    deps = stages.get("train", {}).get("deps", [])
    return any(dep["path"] == str(ACCEPTED) and dep.get("md5") == md5 for dep in deps)


if __name__ == "__main__":
    sys.exit(main())
