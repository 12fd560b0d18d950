"""Checkpoints of training, in a folder named by the run's key; outside the stage's outs, which DVC deletes first."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.stage.files import writing_whole

_KEPT_RUNS = 3
_KEPT_STEPS = 2


def save(folder: Path, step: int, variables: Sequence[Any], facts: dict[str, Any], kind: str = "step") -> Path:
    """Write all variables, and facts as JSON, as one file that appears by rename; remove older ones of the kind."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{step:08d}.npz"
    text = np.frombuffer(json.dumps({**facts, "step": step}).encode(), np.uint8)
    arrays = {f"variable_{index}": variable.numpy() for index, variable in enumerate(variables)}
    with writing_whole(path) as part, part.open("wb") as file:
        np.savez(file, facts=text, **arrays)
    for old in sorted(folder.glob(f"{kind}-*.npz"))[:-_KEPT_STEPS]:
        old.unlink()
    runs = sorted((run for run in folder.parent.iterdir() if run.is_dir()), key=lambda run: run.stat().st_mtime)
    for old in runs[:-_KEPT_RUNS]:
        shutil.rmtree(old)
    return path


def restore(folder: Path, variables: Sequence[Any], kind: str = "step") -> dict[str, Any] | None:
    """Set the variables to the values of a kind's last checkpoint and return its facts; None without a checkpoint."""
    for path in sorted(folder.glob(f"{kind}-*.npz"), reverse=True):
        with np.load(path) as arrays:
            for index, variable in enumerate(variables):
                variable.assign(arrays[f"variable_{index}"])
            return json.loads(arrays["facts"].tobytes())
    return None
