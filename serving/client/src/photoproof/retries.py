"""Carries a flow's calls to the server: one deadline for all of them, and another try where one makes sense.

Only UNAVAILABLE and RESOURCE_EXHAUSTED are tried again, after a random and growing pause; what was wrong with the
request stays wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import tenacity

from photoproof.exchanges import Flow, Result
from photoproof.transport.calls import Answer, AsyncTransport, Call, Refused, Transport

RETRIED = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_LAST_TRY = 0.1  # seconds that the last try is left with
_PAUSES = tenacity.wait_random_exponential(multiplier=0.1, max=2)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a result, in seconds, and how often to try again (None: as often as the time allows)."""

    timeout: float = 10.0
    retries: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.timeout < 86_400:
            raise ValueError(f"timeout is {self.timeout}; it is more than 0 seconds and less than a day")
        if self.retries is not None and self.retries < 0:
            raise ValueError(f"retries is {self.retries}; it is 0 or more")


def carry(flow: Flow[Result], transport: Transport, patience: Patience) -> Result:
    """The flow's result; raises what the flow raises."""
    end = time.monotonic() + patience.timeout
    try:
        call = next(flow)
        while True:
            try:
                answer = _send(transport, call, patience, end)
            except Refused as refused:
                call = flow.throw(refused)
            else:
                call = flow.send(answer)
    except StopIteration as done:
        return done.value


async def carry_async(flow: Flow[Result], transport: AsyncTransport, patience: Patience) -> Result:
    """The same in asyncio."""
    end = time.monotonic() + patience.timeout
    try:
        call = next(flow)
        while True:
            try:
                answer = await _send_async(transport, call, patience, end)
            except Refused as refused:
                call = flow.throw(refused)
            else:
                call = flow.send(answer)
    except StopIteration as done:
        return done.value


def _send(transport: Transport, call: Call, patience: Patience, end: float) -> Answer:
    tries = _Tries()

    def once() -> Answer:
        with tries:
            return transport.send(call, _left(end))

    return tenacity.Retrying(**_policy(patience, end))(once)


async def _send_async(transport: AsyncTransport, call: Call, patience: Patience, end: float) -> Answer:
    tries = _Tries()

    async def once() -> Answer:
        with tries:
            return await transport.send(call, _left(end))

    return await tenacity.AsyncRetrying(**_policy(patience, end))(once)


class _Tries:
    """Keeps the first reason: where the last try only ran out of time, why there were tries at all says more."""

    def __init__(self) -> None:
        self._retried: Refused | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> Literal[False]:
        if isinstance(error, Refused) and error.code in RETRIED:
            self._retried = error
        elif isinstance(error, Refused) and error.code == "DEADLINE_EXCEEDED" and self._retried is not None:
            raise Refused(self._retried.code, self._retried.message) from error
        return False


def _policy(patience: Patience, end: float) -> dict[str, Any]:
    return {
        "retry": tenacity.retry_if_exception(_worth_another_try),
        "wait": lambda state: min(_PAUSES(state), max(0.0, end - time.monotonic() - _LAST_TRY)),
        "stop": lambda state: (
            end - time.monotonic() <= _LAST_TRY
            or (patience.retries is not None and state.attempt_number > patience.retries)
        ),
        "reraise": True,
    }


def _worth_another_try(error: BaseException) -> bool:
    return isinstance(error, Refused) and error.code in RETRIED


def _left(end: float) -> float:
    return max(0.001, end - time.monotonic())
