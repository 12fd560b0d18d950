"""Timing in turns, and the measurements that the table shows."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Task = Callable[[], object]
PEAK = """
try:
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1000
except OSError:  # not on Linux
    import resource, sys
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
"""
"""Code that sets `peak` to the most megabytes that its process had. What Linux or getrusage tells its parent is never
less than the parent's own memory."""


@dataclass(frozen=True)
class Measurement:
    """A row of the table. `limit` is the target of `value`; None is a figure for the record."""

    part: str
    what: str
    measured: str
    value: float
    limit: float | None = None
    at: Literal["most", "least"] = "most"
    unit: str = "x"

    @property
    def target(self) -> str:
        """The limit in words."""
        if self.limit is None:
            return ""
        return f"{'≤' if self.at == 'most' else '≥'} {self.limit:g}{' ' if self.unit != 'x' else ''}{self.unit}"

    @property
    def reached(self) -> bool | None:
        """None where there is no target."""
        if self.limit is None:
            return None
        return bool(self.value <= self.limit if self.at == "most" else self.value >= self.limit)


def interleaved(tasks: Mapping[str, Task], seconds: float, least: int = 5) -> dict[str, np.ndarray]:
    """Milliseconds of each task's runs, taken in turns (A B A B …): a busy moment of the machine hits all alike."""
    for task in tasks.values():
        task()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < least:
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            times[name].append((time.perf_counter() - start) * 1000)
    return {name: np.array(each) for name, each in times.items()}


def ratio(times: np.ndarray, against: np.ndarray) -> float:
    """How many times as long the first takes, both measured in the same turns: the median of the turns' ratios."""
    return float(np.median(times / against))


def median(times: np.ndarray) -> float:
    """The median."""
    return float(np.median(times))
