"""What a picture costs a core in validation and evaluation, and a row of the manifest in memory: for docs/scale.md.

python -m benchmarks.scale FOLDER      # of JPEGs, as your catalogue has them; a minute
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.client import phone_photo
from training.dataset.manifest import SCHEMA
from training.evaluation import embedding
from training.model import autoencoder
from training.stage.params import read_params
from training.validation import measure

PICTURES, WARM = 400, 64
ROWS = 200_000


def main(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:PICTURES]
    if len(paths) <= WARM:
        sys.exit(f"{folder} holds {len(paths)} JPEGs: more than {WARM} are needed")
    size = sum(path.stat().st_size for path in paths) / len(paths)
    print(f"{len(paths)} pictures of {size / 1000:.0f} KB")
    seconds = core_seconds(lambda: [measure.measure(path, 25_000_000) for path in paths])
    print(f"measuring: {len(paths) / seconds:,.0f} pictures a second and core")
    phone = phone_photo(paths[0].read_bytes())
    with tempfile.TemporaryDirectory() as folder_of_phone:
        path = Path(folder_of_phone, "phone.jpg")
        path.write_bytes(phone)
        seconds = core_seconds(lambda: [measure.measure(path, 25_000_000) for _ in range(20)])
    print(f"measuring a 12 Mpx photo of {len(phone) / 1e6:.1f} MB: {20 / seconds:,.0f} a second and core")
    for name in ("params.yaml", "params.default.yaml"):
        encoder = autoencoder.build(read_params(name).train).encoder
        repeated = paths * 5 if encoder.input_shape[1] <= 64 else paths[: 2 * WARM]
        embedding.embed(encoder, paths[:WARM], WARM)
        started = core_seconds(lambda encoder=encoder: embedding.embed(encoder, paths[:WARM], WARM))
        whole = core_seconds(
            lambda encoder=encoder, repeated=repeated: embedding.embed(encoder, [*paths[:WARM], *repeated], WARM)
        )
        rate = len(repeated) / max(whole - started, 1e-3)  # start-up is in both
        print(f"embedding, {name}, {encoder.input_shape[1]} px: {rate:,.0f} pictures a second and core")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = manifest_rows(ROWS)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    row_bytes = rows.memory_usage(deep=True).sum() / ROWS
    print(
        f"a row of the manifest with measures: {row_bytes:,.0f} bytes in pandas "
        f"(the process grew by {grown / 1000:,.0f} MB)"
    )


def core_seconds(task: Callable[[], object]) -> float:
    start = time.process_time()
    task()
    return time.process_time() - start


def manifest_rows(count: int) -> pd.DataFrame:
    """Rows as validation holds them: ids and paths of 20 letters, a sha256, and each measure."""
    letters: dict[str, list] = {name: [f"{number:020}" for number in range(count)] for name in SCHEMA.names}
    letters["sha256"] = [f"{number:064}" for number in range(count)]
    numbers: dict[str, list] = {field.name: [0.5] * count for field in measure.SCHEMA}
    numbers["perceptual_hash"] = [f"{number:016x}" for number in range(count)]
    return pd.DataFrame(letters | numbers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
