"""Whether a flow run was cancelled in Prefect, and the state that a cancelled one ends in."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run as this_run
from prefect.states import Cancelled

from pipelines.stages import stage_process

CANCELLATION_SECONDS = 3
"""How often Prefect is asked, at most, whether the run of a stage was cancelled."""


def finish_cancelled(flow: Any, flow_run: FlowRun, state: State) -> None:
    """Give a run whose stage was stopped the state that was asked for."""
    if isinstance(state.result(raise_on_failure=False), stage_process.StageStopped):
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run.id, Cancelled(message="Cancelled; its stage was stopped."), force=True)


def watch_for_cancellation() -> Callable[[], bool]:
    """A function that says whether this flow run was cancelled; it may be called as often as one likes."""
    run_id = UUID(this_run.get_id())
    asked_at = time.monotonic()

    def is_cancelled() -> bool:
        nonlocal asked_at
        if time.monotonic() - asked_at < CANCELLATION_SECONDS:
            return False
        asked_at = time.monotonic()
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run_id).state
        return state is not None and (state.is_cancelling() or state.is_cancelled())

    return is_cancelled
