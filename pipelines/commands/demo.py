"""The command that shows the whole way: demo."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    catalogue: Annotated[
        Path | None, typer.Option(help="A folder with catalogue.csv and photos.csv; without it the sample is drawn.")
    ] = None,
    setting: Annotated[str | None, typer.Option(help="A setting for params.yaml, such as `default`.")] = None,
    to: Annotated[Path | None, typer.Option(help="Where the scratch workspace goes.")] = None,
) -> None:
    """Show the whole way, from a folder of pictures to ten verdicts, in a scratch workspace."""
    from pipelines.demo.demo import demo as show_demo
    from pipelines.workspace.places import Workspace

    checkout = Workspace.here()
    show_demo(checkout.root, to or checkout.state / "demo", catalogue.resolve() if catalogue else None, setting)
