"""Counters and latencies under TensorFlow Serving's names, as Prometheus text."""

import threading
from collections import defaultdict
from itertools import accumulate

PROMETHEUS_PATH = "/monitoring/prometheus/metrics"

_PREFIX = ":tensorflow:serving:"
_LIMITS = [10 * 1.8**i for i in range(32)]
"""Buckets of microseconds: scale 10, power 1.8, 33 of them with the last open."""


class Monitor:
    """Thread-safe counts since the start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str], int] = defaultdict(int)
        self._latencies: dict[str, dict[tuple[tuple[str, str], ...], _Histogram]] = defaultdict(
            lambda: defaultdict(_Histogram)
        )
        self._counters: dict[str, int] = defaultdict(int)

    def request(self, model: str, status: str, method: str, entrypoint: str, seconds: float) -> None:
        """One call answered: `status` is a canonical code's name, `entrypoint` GRPC or REST."""
        with self._lock:
            self._requests[model, status] += 1
            if status == "OK":
                labels = (("model_name", model), ("API", method), ("entrypoint", entrypoint))
                self._latencies["request_latency"][labels].add(seconds * 1e6)

    def batch(self, model: str, size: int, queued_seconds: float) -> None:
        """One run of the graph for several calls."""
        with self._lock:
            self._counters["batching_session/wrapped_run_count"] += 1
            labels = (("model_name", model),)
            self._latencies["batching_session/processed_batch_size"][labels].add(size)
            self._latencies["batching_session/queuing_latency"][labels].add(queued_seconds * 1e6)

    def values(self) -> dict[str, int]:
        """Counters by TensorFlow Serving's own names; the first label set's value, as its reload call counts them."""
        with self._lock:
            values = {f"/tensorflow/serving/{name}": value for name, value in self._counters.items()}
            if self._requests:
                values["/tensorflow/serving/request_count"] = next(iter(self._requests.values()))
            return values

    def prometheus(self) -> str:
        """The page in Prometheus text format."""
        lines: list[str] = []
        with self._lock:
            for name, value in sorted(self._counters.items()):
                lines += [f"# TYPE {_name(name)} counter", f"{_name(name)}{{}} {value}"]
            lines.append(f"# TYPE {_name('request_count')} counter")
            for (model, status), count in sorted(self._requests.items()):
                lines.append(
                    f"{_name('request_count')}{{{_labels((('model_name', model), ('status', status)))}}} {count}"
                )
            for name, histograms in sorted(self._latencies.items()):
                lines.append(f"# TYPE {_name(name)} histogram")
                for series, histogram in sorted(histograms.items()):
                    lines += histogram.lines(_name(name), _labels(series))
        return "\n".join(lines) + "\n"


class _Histogram:
    def __init__(self) -> None:
        self.buckets = [0] * (len(_LIMITS) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        bucket = next((i for i, limit in enumerate(_LIMITS) if value < limit), len(_LIMITS))
        self.buckets[bucket] += 1
        self.sum += value

    def lines(self, name: str, labels: str) -> list[str]:
        limits = [f"{limit:g}" for limit in _LIMITS] + ["+Inf"]
        counts = list(accumulate(self.buckets))
        return [
            *(f'{name}_bucket{{{labels},le="{limit}"}} {count}' for limit, count in zip(limits, counts, strict=True)),
            f"{name}_sum{{{labels}}} {self.sum:g}",
            f"{name}_count{{{labels}}} {counts[-1]}",
        ]


def _name(name: str) -> str:
    return _PREFIX + name.replace("/", ":")


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
