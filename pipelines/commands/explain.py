"""The command that shows where a score comes from."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput
from training.stage.quiet import hushed

if TYPE_CHECKING:
    from training.evaluation.explain import Explanation
    from training.report.explanation_figure import ExplainedPair


def explain(
    original: Annotated[str, typer.Argument(metavar="ORIGINAL", help="The product's original picture.")],
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="The camera photo.")],
    to: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("explanation.png"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
) -> None:
    """Draw which part of PHOTO speaks for ORIGINAL's product and which against, by the workspace's own model."""
    from photoproof.pictures.prepare import prepare

    workspace = Workspace.here()
    if to.suffix.lower() != ".png" or not to.parent.is_dir():
        raise BadInput(f"--to {to}: name a .png file in a folder that exists")
    pictures = [prepare(picture).image_bytes for picture in (original, photo)]
    with hushed():
        import tensorflow as tf

        from training.evaluation.explain import explain as explain_pair
        from training.evaluation.explain import read_pair_scorer
        from training.model.images import decode
        from training.report.explanation_figure import explanation_figure
        from training.report.figures import save
        from training.report.numbers import probability
    scorer = read_pair_scorer(workspace.root)
    decision = scorer.decision
    explanation = explain_pair(scorer, *(decode(tf.constant(picture), scorer.size).numpy() for picture in pictures))
    row = _row(workspace, f"{Path(original).name} ← {Path(photo).name}", explanation)
    save(explanation_figure([row], decision), to)
    if as_json:
        limits = {"accept_at": decision.accept_at, "reject_at": decision.reject_at}
        typer.echo(json.dumps(explanation.figures() | limits | {"original": original, "photo": photo, "to": str(to)}))
        return
    nearest = ", ".join(f"{product} {cosine:.2f}" for product, cosine in explanation.nearest)
    typer.echo(
        f"explain: {explanation.outcome}, probability {probability(explanation.probability)} (reject below "
        f"{probability(decision.reject_at)}, accept from {probability(decision.accept_at)})"
        f"{f'; most like {nearest}' if nearest else ''} -> {to}"
    )


def _row(workspace: Workspace, title: str, explanation: "Explanation") -> "ExplainedPair":
    """The explanation with the nearest products' names and pictures, where the workspace has its data/."""
    import tensorflow as tf

    from training.dataset.manifest import read_manifest
    from training.model.images import decode
    from training.report.explanation_figure import ExplainedPair, label
    from training.report.illustrate import NEAR

    manifest, originals = workspace.data / "manifest.parquet", {}
    if manifest.is_file():
        rows = read_manifest(manifest).query("role == 'original'")
        originals = dict(zip(rows.product_id, zip(rows["name"], rows.path, strict=True), strict=True))
    nearest = []
    for product, cosine in explanation.nearest:
        name, path = originals.get(product, (product, None))
        path = workspace.data / path if path else None
        picture = decode(tf.io.read_file(str(path)), NEAR).numpy() if path and path.is_file() else None
        nearest.append((label(name, cosine), picture))
    return ExplainedPair(title, explanation, nearest)
