"""Callers that ask a model server by label at a steady rate, and keep the answer to each call."""

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from photoproof import PhotoproofError, Verdict, Verifier

PER_SECOND = 50
THREADS = 8


@dataclass(frozen=True)
class Call:
    """A call that has ended: when (time.monotonic), how many seconds it took, and its answer."""

    ended: float
    seconds: float
    answer: Verdict | PhotoproofError


class Callers:
    """Calls of `verify` by the label `stable` at PER_SECOND, without retries, from now until `end`."""

    def __init__(self, server: str, pairs: Sequence[tuple[bytes, bytes]]):
        self.calls: list[Call] = []
        self._pairs = itertools.cycle(pairs)
        self._ended = threading.Event()
        self._verifier = Verifier(server, timeout=60, retries=0)
        self._clock = threading.Thread(target=self._run, daemon=True)
        self._clock.start()

    @property
    def failed(self) -> list[str]:
        """The messages of the failed calls."""
        return [str(call.answer) for call in self.calls if not isinstance(call.answer, Verdict)]

    @property
    def models(self) -> list[str]:
        """The models that answered, in their order."""
        answered = [str(call.answer.model_id) for call in self.calls if isinstance(call.answer, Verdict)]
        return [model for model, _ in itertools.groupby(answered)]

    def end(self) -> None:
        """Stop asking, and wait for the calls that are under way."""
        self._ended.set()
        self._clock.join(120)
        self._verifier.close()

    def _run(self) -> None:
        due = time.monotonic()
        with ThreadPoolExecutor(THREADS) as pool:
            while not self._ended.wait(max(0.0, due - time.monotonic())):
                pool.submit(self._ask, next(self._pairs))
                due += 1 / PER_SECOND

    def _ask(self, pair: tuple[bytes, bytes]) -> None:
        started = time.monotonic()
        try:
            answer = self._verifier.verify(*pair)
        except PhotoproofError as error:
            answer = error
        now = time.monotonic()
        self.calls.append(Call(now, now - started, answer))
