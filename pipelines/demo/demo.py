"""The whole way in a scratch workspace: the commands that a user would type, then ten verdicts on unseen photos."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from photoproof import PhotoproofError, Verifier
from pipelines.deployment.model_server import running_server
from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port
from pipelines.workspace.settings import Settings
from training.dataset.draws import hash_to_unit
from training.dataset.manifest import read_manifest
from training.dataset.splits import assign_splits
from training.stage.errors import BadInput
from training.stage.params import read_params

TEAM_VARIABLES = frozenset({*Settings.variables(), "MLFLOW_TRACKING_URI", "PREFECT_API_URL"})
"""Set by a team for its own database and servers; a scratch workspace must neither write there nor wait for them."""


class CommandFailed(RuntimeError):
    """One of the demo's commands ended with an error that it has printed."""

    exit_code = 1


@dataclass(frozen=True)
class DemoClaim:
    """A photo and the product that it is said to show."""

    photo_id: str
    photo: Path
    product_id: str
    """The product that it claims to show."""
    original: Path
    truth: str
    """The product that it shows."""

    @property
    def genuine(self) -> bool:
        """Whether the claim is true."""
        return self.product_id == self.truth


def demo(checkout: Path, scratch: Path, catalogue: Path | None = None, setting: str | None = None) -> int:
    """Run the main job in a fresh clone at `scratch` and print its verdicts; returns how many of ten were right.

    Without a catalogue the sample is drawn. Raises BadInput for a catalogue that does not exist, CommandFailed.
    """
    started = time.monotonic()
    if catalogue is not None and not (catalogue / "catalogue.csv").is_file():
        raise BadInput(f"{catalogue} has no catalogue.csv: name a folder with catalogue.csv and photos.csv")
    workspace = _clone(checkout, scratch)
    port = free_port()
    environment = scratch_environment(workspace, port)
    if setting:
        run_command(environment, "params", "use", setting)
    if catalogue is None:
        catalogue = workspace.state / "sample"
        run_command(environment, "sample", str(catalogue))
    run_command(environment, "import", str(catalogue))
    run_command(environment, "retrain")
    run_command(environment, "promote", "challenger")
    run_command(environment, "deploy")
    right = _ask_for_verdicts(workspace, port)
    _print_closing(workspace, checkout, right, time.monotonic() - started)
    return right


def scratch_environment(workspace: Workspace, port: int) -> dict[str, str]:
    """The environment of a demo's commands: nothing of a team's, and a model server at a port of the demo's own."""
    return {name: value for name, value in os.environ.items() if name.upper() not in TEAM_VARIABLES} | {
        "PHOTOPROOF_WORKSPACE": str(workspace.root),
        "PHOTOPROOF_SERVER": f"grpc://localhost:{port}",
    }


def unseen_claims(workspace: Workspace, pairs: int = 5) -> list[DemoClaim]:
    """Genuine and impostor claims, `pairs` of each, on test photos of known products.

    Always the same for a data version. Every photo shows another product while there are enough products. Every other
    impostor claims a product of the photo's own category, where that has a second product.
    """
    split = read_params(workspace.params).split
    pictures = assign_splits(read_manifest(workspace.reports / "validation" / "accepted.parquet"), split)
    originals = pictures[pictures.role == "original"].set_index("product_id")
    photos = pictures[(pictures.role == "photo") & pictures.known & (pictures.split == "test")]
    photos = photos.assign(order=[hash_to_unit("demo", str(photo_id)) for photo_id in photos.picture_id]).sort_values(
        "order"
    )
    turn = photos.groupby("product_id", sort=False).cumcount()
    chosen = photos.assign(turn=turn).sort_values(["turn", "order"]).head(2 * pairs)
    claims = []
    for number, (photo_id, truth, path) in enumerate(
        zip(chosen.picture_id, chosen.product_id, chosen.path, strict=True)
    ):
        claimed = truth if number < pairs else _other_product(originals, truth, alike=number % 2 == 0)
        claims.append(
            DemoClaim(
                photo_id,
                workspace.data / path,
                claimed,
                workspace.data / str(originals.at[claimed, "path"]),
                truth,
            )
        )
    return claims


def _other_product(originals: pd.DataFrame, truth: str, alike: bool) -> str:
    others = originals.drop(index=truth)
    category = originals.at[truth, "category"]
    same_category = others[others.category == category]
    other_category = others[others.category != category]
    pool = same_category if (alike and len(same_category)) or not len(other_category) else other_category
    return min(pool.index, key=lambda product: hash_to_unit("demo", truth, str(product)))


def _clone(checkout: Path, scratch: Path) -> Workspace:
    if scratch.exists():
        shutil.rmtree(scratch)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    _print(f"$ git clone {checkout.name} {scratch}")
    clone = subprocess.run(["git", "clone", "--quiet", str(checkout), str(scratch)], capture_output=True, text=True)
    if clone.returncode:
        raise CommandFailed(f"git clone: {clone.stderr.strip().splitlines()[-1]}")
    return Workspace(scratch.resolve())


def run_command(environment: dict[str, str], *words: str) -> None:
    """Run a `photoproof` command as a person would, its output on the terminal. Raises CommandFailed."""
    _print(f"$ photoproof {' '.join(words)}")
    words = (sys.executable, "-m", "photoproof", *words)
    command = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL)
    if command.returncode:
        raise CommandFailed(f"the command above ended with exit code {command.returncode}")


def _ask_for_verdicts(workspace: Workspace, port: int) -> int:
    """Ask a model server at the port about ten claims, print its verdicts, and count the right ones."""
    table = Table(title="Ten claims on photos that training never saw", title_justify="left")
    for column in ("photo", "claim", "truth", "verdict", "probability", ""):
        table.add_column(column, justify="right" if column == "probability" else "left")
    right = 0
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server(workspace, port))
        _print(f"$ photoproof serve  # {server.description}")
        verifier = stack.enter_context(Verifier(server.grpc))
        for claim in unseen_claims(workspace):
            try:
                verdict = verifier.verify(claim.original, claim.photo)
                outcome, probability = verdict.outcome, f"{verdict.probability:.3f}"
            except PhotoproofError as error:
                outcome, probability = str(error), ""
            correct = outcome == ("match" if claim.genuine else "mismatch")
            right += correct
            table.add_row(
                claim.photo_id,
                claim.product_id,
                claim.truth,
                outcome,
                probability,
                "right" if correct else "not right",
            )
    Console(width=120).print(table, "", sep="\n")
    return right


def _print_closing(workspace: Workspace, checkout: Path, right: int, seconds: float) -> None:
    metrics = json.loads((workspace.reports / "evaluation" / "metrics.json").read_text())
    Console(width=120).print(metrics_table(metrics))
    root = os.path.relpath(workspace.root, checkout)
    report, table, docs = (
        os.path.relpath(workspace.reports / name, checkout)
        for name in ("evaluation/report.html", "evaluation/table.md", "validation/data_docs/index.html")
    )
    _print(f"{right} of 10 right.")
    _print("Look further:")
    _print(f"  report     open {report}")
    _print(f"  table      cat {table}")
    _print(f"  Data Docs  open {docs}")
    _print(f"  MLflow     PHOTOPROOF_WORKSPACE={root} .venv/bin/photoproof mlflow")
    _print(f"  Prefect    PHOTOPROOF_WORKSPACE={root} .venv/bin/photoproof prefect")
    _print(f"  serve      PHOTOPROOF_WORKSPACE={root} .venv/bin/photoproof serve")
    _print(f"Total: {seconds // 60:.0f} min {seconds % 60:.0f} s")


def metrics_table(metrics: dict[str, Any]) -> Table:
    """The model beside the trivial baselines, on the test photos of known and of new products."""
    table = Table(title="On the test photos, each against every original", title_justify="left")
    table.add_column("products")
    table.add_column("method")
    for name in ("AUC", "EER", "TAR at 1 % FAR", "top-1"):
        table.add_column(name, justify="right")
    for group in ("known", "new"):
        for method, measured in {"this model": metrics, **metrics["baselines"]}.items():
            if group in measured:
                figures = [f"{measured[group][key]:.3f}" for key in ("auc", "eer", "tar_at_far_1pct", "top1")]
                table.add_row(group if measured is metrics else "", method.replace("_", " "), *figures)
        table.add_section()
    return table


def _print(line: str) -> None:
    print(line, flush=True)
