"""`python -m benchmarks`: every benchmark in one run, as one table, and in reports/bench/."""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from rich.console import Console
from rich.table import Table

from benchmarks.timing import Measurement
from training.stage.params import Params, read_params
from training.stage.quiet import hushed

if TYPE_CHECKING:
    from benchmarks.model import Pairs

PAIRS, PICTURE_KB = 32, 21
SETTINGS = Path("params.yaml"), Path("params.default.yaml")


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and writes; 0 whether targets are reached or not, for they hold on an idle machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--server", help="measure the server at this gRPC address, as it is")
    parser.add_argument("--rest", help="its REST address; by default the same host's port 8501")
    parser.add_argument("--model", type=Path, help="the SavedModel that is served, instead of untrained ones")
    parser.add_argument("--out", type=Path, default=Path("reports/bench"), help="where serving.json and .md go")
    parser.add_argument("--scale", type=float, default=1.0, help="of the time spent: 0.05 only shows that it runs")
    parser.add_argument("--growth", type=int, nargs="+", default=[1000, 10_000], help="on how many pictures 100 come")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    settings = {_named(params): params for params in (read_params(file) for file in SETTINGS)}
    with tempfile.TemporaryDirectory() as scratch:
        rows = _measured(options, settings, Path(scratch))
    report = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "seconds": round(time.monotonic() - start),
        "load": _load(),
        "pictures": f"{PAIRS} pairs of JPEGs of about {PICTURE_KB} KB",
        "model": str(options.model or f"untrained: {', '.join(settings)}"),
        "server": options.server or "started for the benchmark",
        "rows": [{**dataclasses.asdict(row), "target": row.target, "reached": row.reached} for row in rows],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "serving.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "serving.md").write_text(_markdown(report))
    _print(report, rows)
    print(f"bench: {len(rows)} figures in {report['seconds']} s -> {options.out}/serving.md and serving.json")
    return 0


def _measured(options: argparse.Namespace, settings: dict[str, Params], scratch: Path) -> list[Measurement]:
    with hushed():
        from benchmarks import client, training
        from benchmarks.model import draw_pairs, export_model

        scale, pairs = options.scale, draw_pairs(PAIRS if options.scale >= 1 else 4, PICTURE_KB * 1000)
    rows = client.rows(pairs, 12 * scale, max(1, round(5 * scale)))
    ours = not (options.model or options.server)
    if options.model or options.server:  # what a server serves is known only where --model says so
        name, params = next(iter(settings.items()))
        settings = {options.model.name if options.model else name: params}
    for name, params in settings.items():
        with hushed():
            folder = options.model or export_model(scratch / name, params)
        of_model = training.rows(pairs, params.train, scratch / f"{name}, photos", 20 * scale) if ours else []
        of_model += _served(options, folder, params, pairs, scratch / f"{name}, served")
        rows += [dataclasses.replace(row, part=f"{row.part}, {name}") for row in of_model]
    if ours:
        with hushed():
            from benchmarks import growth, promotions, validation
        count = max(2, round(promotions.PROMOTIONS * scale))
        promoted = promotions.rows(next(iter(settings.values())), pairs, scratch / "promotions", count)
        rows += [dataclasses.replace(row, part=f"promotion, {next(iter(settings))}") for row in promoted]
        rows += validation.rows(pairs, scratch / "measuring", scale)
        rows += growth.rows(scratch / "growth", options.growth if scale >= 1 else [100])
    return rows


def _served(
    options: argparse.Namespace, folder: Path, params: Params, pairs: "Pairs", scratch: Path
) -> list[Measurement]:
    """What a model costs, by itself and served."""
    with hushed():
        from benchmarks import decode, serving
        from benchmarks.server import running
        from training.saved_model import loading

    scale = options.scale
    with loading.load(folder) as model:
        facts = folder / "assets.extra/model.json"
        size = json.loads(facts.read_text())["image_size"] if facts.exists() else params.train.image_size
        rows = decode.rows(model, pairs, size, params.export.max_pixels, scratch / "decode", 30 * scale)
        if options.server:
            rest = options.rest or f"http://{urlsplit(options.server).hostname}:8501"
            served = model if options.model else None
            rows += serving.latency_rows(served, options.server, rest, pairs, 15 * scale)
            return rows + serving.throughput_rows(served, options.server, pairs, 70 * scale)
        with running(folder, scratch / "plain", batching=False) as (grpc, rest):
            rows += serving.latency_rows(model, grpc, rest, pairs, 15 * scale)
        with running(folder, scratch / "batching", batching=True) as (grpc, _):
            return rows + serving.throughput_rows(model, grpc, pairs, 70 * scale)


def _named(params: Params) -> str:
    return f"{params.train.encoder} {params.train.image_size} px"


def _print(report: dict, rows: list[Measurement]) -> None:
    table = Table(title=f"{report['machine']}; {report['pictures']}; model {report['model']}", title_justify="left")
    for name in ("part", "what", "measured", "target", ""):
        table.add_column(name)
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        colour = {True: "green", False: "red", None: None}[row.reached]
        ends = after is None or after.part != row.part
        table.add_row(row.part, row.what, row.measured, row.target, _word(row), style=colour, end_section=ends)
    Console(width=None if sys.stdout.isatty() else 180).print(table)


def _markdown(report: dict) -> str:
    lines = [
        f"Measured on {report['machine']}, load {report['load']} at the end; {report['pictures']}; "
        f"model: {report['model']}; server: {report['server']}.",
        "",
        "| part | what | measured | target | |",
        "|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        shown = Measurement(**{field.name: row[field.name] for field in dataclasses.fields(Measurement)})
        lines.append(f"| {shown.part} | {shown.what} | {shown.measured} | {shown.target} | {_word(shown)} |")
    return "\n".join(lines) + "\n"


def _word(row: Measurement) -> str:
    return {True: "reached", False: "missed", None: ""}[row.reached]


def _load() -> float | None:
    with contextlib.suppress(OSError):
        return round(os.getloadavg()[0], 1)
    return None


if __name__ == "__main__":
    sys.exit(main())
