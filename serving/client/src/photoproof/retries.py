"""Sends an exchange's calls to the server: one deadline for all of them, and another try where that makes sense.

Only UNAVAILABLE and RESOURCE_EXHAUSTED are tried again, after a random and growing pause; what was wrong with the
request stays wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import tenacity

from photoproof.exchanges import Exchange, Result
from photoproof.transport.calls import Answer, AsyncTransport, Call, CallFailed, Transport

RETRIED = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_LAST_TRY = 0.1  # seconds that the last try is left with
_PAUSES = tenacity.wait_random_exponential(multiplier=0.1, max=2)


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a result, in seconds, and how often to try again (None: as often as the time allows)."""

    timeout: float = 10.0
    retries: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.timeout < 86_400:
            raise ValueError(f"timeout is {self.timeout}; it is more than 0 seconds and less than a day")
        if self.retries is not None and self.retries < 0:
            raise ValueError(f"retries is {self.retries}; it is 0 or more")


def run_with_retries(exchange: Exchange[Result], transport: Transport, policy: RetryPolicy) -> Result:
    """The exchange's result; raises what the exchange raises."""
    end = time.monotonic() + policy.timeout
    try:
        call = next(exchange)
        while True:
            try:
                answer = _send(transport, call, policy, end)
            except CallFailed as failure:
                call = exchange.throw(failure)
            else:
                call = exchange.send(answer)
    except StopIteration as done:
        return done.value


async def run_with_retries_async(exchange: Exchange[Result], transport: AsyncTransport, policy: RetryPolicy) -> Result:
    """The same in asyncio."""
    end = time.monotonic() + policy.timeout
    try:
        call = next(exchange)
        while True:
            try:
                answer = await _send_async(transport, call, policy, end)
            except CallFailed as failure:
                call = exchange.throw(failure)
            else:
                call = exchange.send(answer)
    except StopIteration as done:
        return done.value


def _send(transport: Transport, call: Call, policy: RetryPolicy, end: float) -> Answer:
    retry_reason = _RetryReason()

    def send() -> Answer:
        with retry_reason:
            return transport.send(call, _seconds_until(end))

    return tenacity.Retrying(**_tenacity_options(policy, end))(send)


async def _send_async(transport: AsyncTransport, call: Call, policy: RetryPolicy, end: float) -> Answer:
    retry_reason = _RetryReason()

    async def send() -> Answer:
        with retry_reason:
            return await transport.send(call, _seconds_until(end))

    return await tenacity.AsyncRetrying(**_tenacity_options(policy, end))(send)


class _RetryReason:
    """Keeps why a call was tried again: where the last try only ran out of time, that says more than the deadline."""

    def __init__(self) -> None:
        self._failure: CallFailed | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> Literal[False]:
        if isinstance(error, CallFailed) and error.code in RETRIED:
            self._failure = error
        elif isinstance(error, CallFailed) and error.code == "DEADLINE_EXCEEDED" and self._failure is not None:
            raise CallFailed(self._failure.code, self._failure.message) from error
        return False


def _tenacity_options(policy: RetryPolicy, end: float) -> dict[str, Any]:
    return {
        "retry": tenacity.retry_if_exception(_is_worth_another_try),
        "wait": lambda state: min(_PAUSES(state), max(0.0, end - time.monotonic() - _LAST_TRY)),
        "stop": lambda state: (
            end - time.monotonic() <= _LAST_TRY
            or (policy.retries is not None and state.attempt_number > policy.retries)
        ),
        "reraise": True,
    }


def _is_worth_another_try(error: BaseException) -> bool:
    return isinstance(error, CallFailed) and error.code in RETRIED


def _seconds_until(end: float) -> float:
    return max(0.001, end - time.monotonic())
