"""What each choice in params.yaml is worth: trains and evaluates rows of ablation.yaml on a workspace's data.

    python -m benchmarks.ablation --workspace .photoproof/grocery --seeds 1 2 [--rows "as set" "no reconstruction"]

Each row and seed has a folder under .photoproof/ablation/DATA/ in the workspace (DATA: of the accepted pictures), and
is not trained again where the folder holds its result. The table goes to reports/ablation.md. A row that fails stays in
it, with its reason, and is tried again the next time.
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
from training.stage.params import Params, read_params
from training.stage.quiet import hushed
from training.stage.tracking import tracking_uri

with hushed():  # it imports TensorFlow
    from training.fitting.catalogue import ACCEPTED
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
class Outcome:
    """One row with one seed: its figures in the order of FIGURES, or why there are none."""

    figures: tuple[float, ...] = ()
    minutes: float = float("nan")
    """Of training; NaN where the model was there already."""
    error: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for, print the table and write it; 0 also where rows failed, for that is a result."""
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
    base = read_params(root / "params.yaml")
    rows: dict[str, dict[str, Any]] = yaml.safe_load(ROWS.read_text())[base.train.encoder]
    for name in names or []:
        if name not in rows:
            raise BadInput(f"{ROWS.name} has no row {name!r} for {base.train.encoder}: it has {', '.join(rows)}")
    if not (root / ACCEPTED).is_file():
        raise BadInput(f"{root} has no accepted pictures: run `photoproof retrain` there first")
    outcomes: dict[str, list[Outcome]] = {}
    for name in names or rows:
        for seed in seeds:
            params = _changed(base, {**rows[name], "train.seed": seed})
            print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
            outcomes.setdefault(name, []).append(_run(root, params))
    table = as_markdown(outcomes, seeds)
    (root / "reports/ablation.md").write_text(table)
    return table


def as_markdown(outcomes: dict[str, list[Outcome]], seeds: list[int]) -> str:
    """Rows with the mean of the seeds, and half the distance between the best and the worst after ±."""
    heads = [f"{group}: {head}" if at in (0, 5) else head for at, (group, _, head) in enumerate(FIGURES)]
    lines = [
        f"Seeds {', '.join(map(str, seeds))}: mean ± half the range. Test photos, each against every original.",
        "",
        f"| what | minutes | {' | '.join(heads)} |",
        "|---|" + "---|" * (1 + len(FIGURES)),
    ]
    for name, each in outcomes.items():
        errors = {one.error for one in each if one.error}
        figures = np.array([one.figures for one in each if not one.error])
        if not len(figures):
            lines.append(f"| {name} | failed: {'; '.join(sorted(errors))} |" + " |" * len(FIGURES))
            continue
        minutes = [one.minutes for one in each if np.isfinite(one.minutes)]
        took = f"{np.mean(minutes):.0f}" if minutes else ""
        spread = (figures.max(0) - figures.min(0)) / 2
        told = [f"{mean:.3f} ± {half:.3f}" for mean, half in zip(figures.mean(0), spread, strict=True)]
        note = f" (a seed failed: {'; '.join(sorted(errors))})" if errors else ""
        lines.append(f"| {name}{note} | {took} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def _changed(params: Params, changes: dict[str, Any]) -> Params:
    for key, value in changes.items():
        part, name = key.split(".")
        now = getattr(params, part)
        value = float(value) if isinstance(getattr(now, name), float) else value
        params = dataclasses.replace(params, **{part: dataclasses.replace(now, **{name: value})})
    return params


def _run(root: Path, params: Params) -> Outcome:
    said = json.dumps(dataclasses.asdict(params), sort_keys=True)
    data = hashlib.sha256((root / ACCEPTED).read_bytes()).hexdigest()
    folder = root / ".photoproof/ablation" / data[:12] / hashlib.sha256(said.encode()).hexdigest()[:12]
    result = folder / "result.json"
    if result.is_file():
        found = json.loads(result.read_text())
        return Outcome(tuple(found["figures"]), found["minutes"])
    _prepare(root, folder, params)
    outcome = _trained_and_evaluated(root, folder, params)
    if not outcome.error:
        part = folder / "result.json.part"
        part.write_text(json.dumps(dataclasses.asdict(outcome)) + "\n")
        part.replace(result)
    return outcome


def _prepare(root: Path, folder: Path, params: Params) -> None:
    (folder / "reports/validation").mkdir(parents=True, exist_ok=True)
    (folder / ".photoproof").mkdir(exist_ok=True)
    for name in ("data", ".photoproof/baselines"):  # the same for every row
        (root / name).mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            (folder / name).symlink_to(root / name)
    for name in ("data.dvc", ACCEPTED):
        if (root / name).is_file():
            shutil.copyfile(root / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(dataclasses.asdict(params)))


def _trained_and_evaluated(root: Path, folder: Path, params: Params) -> Outcome:
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri(root)}
    minutes = float("nan")
    there = _model_of(root, folder, params)
    if there:
        if there != folder / "models/autoencoder":  # its own, where evaluation failed
            shutil.copytree(there, folder / "models/autoencoder", dirs_exist_ok=True)
        facts = json.loads((there / FACTS).read_text()) | {"train": dataclasses.asdict(params.train)}
        (folder / "models/autoencoder" / FACTS).write_text(json.dumps(facts))
    started = time.monotonic()
    for stage in ("evaluate",) if there else ("train", "evaluate"):
        command = [sys.executable, "-m", f"training.{stage}"]
        done = subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            return Outcome(error=(done.stderr.strip().splitlines() or ["no message"])[-1])
        if stage == "train":
            minutes = (time.monotonic() - started) / 60
    metrics = json.loads((folder / "reports/evaluation/metrics.json").read_text())
    return Outcome(tuple(_figure(metrics, group, key) for group, key, _ in FIGURES), minutes)


def _figure(metrics: dict[str, Any], group: str, key: str) -> float:
    found = metrics.get(group, {}).get(key, float("nan"))
    return float(found["auc"] if isinstance(found, dict) else found)


def _model_of(root: Path, folder: Path, params: Params) -> Path | None:
    """A model that these params for training have made of the same pictures, in the workspace or in another row.

    One with another fixed_weight will do, for that enters no gradient; 0 builds another network.
    """

    def made_by(train: dict[str, Any]) -> dict[str, Any]:
        return train | {"fixed_weight": train["fixed_weight"] > 0}

    wanted = made_by(dataclasses.asdict(params.train))
    models = [folder / "models/autoencoder", *folder.parent.glob("*/models/autoencoder")]
    if _trained_on_the_accepted(root):
        models.append(root / "models/autoencoder")
    for model in models:
        facts = model / FACTS
        if facts.is_file() and made_by(json.loads(facts.read_text())["train"]) == wanted:
            return model
    return None


def _trained_on_the_accepted(root: Path) -> bool:
    """Whether dvc.lock says that the workspace's model is of the pictures that are accepted now."""
    lock = root / "dvc.lock"
    stages = yaml.safe_load(lock.read_text())["stages"] if lock.is_file() else {}
    md5 = hashlib.md5((root / ACCEPTED).read_bytes(), usedforsecurity=False).hexdigest()
    deps = stages.get("train", {}).get("deps", [])
    return any(dep["path"] == str(ACCEPTED) and dep.get("md5") == md5 for dep in deps)


if __name__ == "__main__":
    sys.exit(main())
