"""The deploy flow, and the watch that starts it when MLflow's aliases ask for something."""

import time
from collections.abc import Callable
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

from pipelines.deployment.history import Change, history
from pipelines.deployment.observation import observe, plan_deployment
from pipelines.deployment.plan import Step
from pipelines.deployment.reconcile import Deployment, deploy, forget_failures
from pipelines.orchestration.prefect_server import answers
from pipelines.orchestration.run_log import log_line
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings
from training.stage.run import describe

RETRY_SECONDS = 60
"""When a plan that failed is tried again, where no version was to blame."""

PREFECT_RETRIES = 1
"""Of a call to Prefect. Its own five take four minutes in which no alias is followed, where its server has ended."""


@flow(name="deploy", flow_run_name="deploy")
def deploy_flow(root: Path, retry: bool = False) -> Deployment:
    """Make the model server equal to MLflow's aliases: champion serves as stable, challenger as canary.

    Args:
        root: the workspace.
        retry: try a version again that has failed.

    Raises DeployFailed, NotProven, RegistryUnreachable: each with one line for a person.
    """
    settings = Settings()
    workspace = Workspace.at(root, settings)
    lines: list[str] = []

    def say(line: str) -> None:
        log_line(line)
        lines.append(line)

    outcome = ""
    try:
        deployment = deploy(workspace, settings, say=say, retry=retry)
        outcome = str(deployment)
        return deployment
    except Exception as error:
        outcome = f"failed: {describe(error)}"
        raise
    finally:
        try:
            text = [f"# {outcome}", "", *(f"- {line}" for line in lines), "", *_last_changes(workspace)]
            create_markdown_artifact("\n".join(text), key="deployment", description=str(root))
        except Exception as error:  # it only reports what was done
            print(f"WARNING: the run in Prefect has no artifact: {describe(error)}", flush=True)


def _last_changes(workspace: Workspace) -> list[str]:
    rows = [_row(change) for change in reversed(history(workspace)[-10:])]
    return ["## Last changes", "", "| when | alias | from | to | outcome | by | reason |", f"|{'---|' * 7}", *rows]


def _row(change: Change) -> str:
    cells = (change.alias, change.from_version or "", change.to_version, change.outcome, change.who, change.reason)
    return f"| {change.at.astimezone():%Y-%m-%d %H:%M:%S} | {' | '.join(map(str, cells))} |"


class _Problems:
    """What is wrong, round after round: each problem is reported once, until it changes or is solved."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._last_round: list[str] = []
        self._this_round: list[str] = []

    def add(self, problem: str) -> None:
        if problem not in self._last_round + self._this_round:
            self._say(f"WARNING: {problem}")
        self._this_round.append(problem)

    def end_round(self) -> None:
        if self._last_round and not self._this_round:
            self._say("deploy: all is right again")
        self._last_round, self._this_round = self._this_round, []


def watch(
    workspace: Workspace,
    settings: Settings,
    say: Callable[[str], None] = print,
    ended: Callable[[float], bool] = lambda seconds: time.sleep(seconds) or False,
) -> None:
    """Look at the aliases every `watch_seconds`, and run the flow when the plan is not empty.

    Where Prefect does not answer, it deploys without a flow run.
    A problem is reported once, until it changes or is solved. `ended` waits and says whether to stop.
    """
    problems = _Problems(say)
    tried: list[Step] = []
    retry_at, failure = 0.0, ""  # when the steps that were tried last may be tried again, and how they failed
    while True:
        try:
            url = get_current_settings().api.url
            if url and not answers(url):
                problems.add(f"Prefect does not answer at {url}: until it runs, aliases are followed without flow runs")
                url = None
            observation = observe(workspace, settings)
            if observation.standing_failures != observation.failures:
                forget_failures(workspace, settings)
            planned = plan_deployment(workspace, observation)
            for warning in planned.warnings:
                problems.add(warning)
            steps = list(planned.steps)
            if steps and (steps != tried or time.monotonic() >= retry_at):
                failure = ""
                try:
                    if url is None or not _run_flow(workspace, problems):
                        deploy(workspace, settings, say=say)
                except Exception as error:
                    failure = describe(error)
                tried, retry_at = steps, time.monotonic() + RETRY_SECONDS
            if steps and failure:
                problems.add(failure)
        except Exception as error:  # whatever it is, what serves goes on serving, and the next round may succeed
            problems.add(describe(error))
        problems.end_round()
        if ended(settings.watch_seconds):
            return


def _run_flow(workspace: Workspace, problems: _Problems) -> bool:
    """Run the flow; whether it came to its end in Prefect. Raises what deploy raises."""
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: PREFECT_RETRIES}):
            deploy_flow(workspace.root)
    except Exception as error:
        if hasattr(error, "exit_code"):  # an error of deploy's own
            raise
        problems.add(f"the flow run broke off: {describe(error)}; deploying without Prefect")
        return False
    return True
