"""Checkpoints of training, outside the stage's outs (DVC deletes those first), found again by what they belong to."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_KEPT_RUNS = 3
_KEPT_STEPS = 2


def save(folder: Path, step: int, variables: Sequence[Any], facts: dict[str, Any], kind: str = "step") -> Path:
    """Write all variables, and facts that JSON can say, as one file that appears by rename; old ones of a kind go."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{step:08d}.npz"
    part = path.with_suffix(".part")
    said = np.frombuffer(json.dumps({**facts, "step": step}).encode(), np.uint8)
    with part.open("wb") as file:
        np.savez(file, facts=said, **{f"variable_{at}": one.numpy() for at, one in enumerate(variables)})
    part.replace(path)
    for old in sorted(folder.glob(f"{kind}-*.npz"))[:-_KEPT_STEPS]:
        old.unlink()
    runs = sorted((run for run in folder.parent.iterdir() if run.is_dir()), key=lambda run: run.stat().st_mtime)
    for old in runs[:-_KEPT_RUNS]:
        shutil.rmtree(old)
    return path


def restore(folder: Path, variables: Sequence[Any], kind: str = "step") -> dict[str, Any] | None:
    """Give the variables the values of a kind's last checkpoint and return its facts; None where there is none."""
    for path in sorted(folder.glob(f"{kind}-*.npz"), reverse=True):
        with np.load(path) as arrays:
            for at, variable in enumerate(variables):
                variable.assign(arrays[f"variable_{at}"])
            return json.loads(arrays["facts"].tobytes())
    return None
