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
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Draw which part of PHOTO speaks for ORIGINAL's product and which against, by the workspace's own model."""
    from photoproof.pictures.prepare import prepare

    workspace = Workspace.here()
    if to.suffix.lower() != ".png" or not to.parent.is_dir():
        raise BadInput(f"--to {to}: name a .png file in a folder that is there")
    sent = [prepare(one).image_bytes for one in (original, photo)]
    with hushed():
        import tensorflow as tf

        from training.evaluation.explain import explain as find
        from training.evaluation.explain import read_pair_scorer
        from training.model.images import decode
        from training.report.explanation_figure import explanation_figure
        from training.report.figures import save
        from training.report.numbers import probability
    scorer = read_pair_scorer(workspace.root)
    found = find(scorer, *(decode(tf.constant(one), scorer.size).numpy() for one in sent))
    row = _row(workspace, f"{Path(original).name} ← {Path(photo).name}", found)
    save(explanation_figure([row], scorer.decision), to)
    if as_json:
        limits = {"accept_at": scorer.decision.accept_at, "reject_at": scorer.decision.reject_at}
        typer.echo(json.dumps(found.figures() | limits | {"original": original, "photo": photo, "to": str(to)}))
        return
    like = ", ".join(f"{product} {cosine:.2f}" for product, cosine in found.nearest)
    typer.echo(
        f"explain: {found.outcome}, probability {probability(found.probability)} (reject below "
        f"{probability(scorer.decision.reject_at)}, accept from {probability(scorer.decision.accept_at)})"
        f"{f'; most like {like}' if like else ''} -> {to}"
    )


def _row(workspace: Workspace, title: str, found: "Explanation") -> "ExplainedPair":
    """The products that the photo is most like have names and pictures where data/ is there."""
    import tensorflow as tf

    from training.dataset.manifest import read_manifest
    from training.model.images import decode
    from training.report.explanation_figure import ExplainedPair, label
    from training.report.illustrate import NEAR

    manifest, known = workspace.data / "manifest.parquet", {}
    if manifest.is_file():
        rows = read_manifest(manifest).query("role == 'original'")
        known = dict(zip(rows.product_id, zip(rows["name"], rows.path, strict=True), strict=True))
    nearest = []
    for product, cosine in found.nearest:
        name, path = known.get(product, (product, None))
        path = workspace.data / path if path else None
        picture = decode(tf.io.read_file(str(path)), NEAR).numpy() if path and path.is_file() else None
        nearest.append((label(name, cosine), picture))
    return ExplainedPair(title, found, nearest)
