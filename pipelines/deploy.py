"""The deploy flow, and the watch that starts it when MLflow's aliases ask for something."""

import time
from collections.abc import Callable
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

from pipelines.deployment.history import history
from pipelines.deployment.plan import Step
from pipelines.deployment.reconcile import Deployment, deploy, look
from pipelines.orchestration.prefect_server import answers
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings
from training.stage.run import describe

AGAIN_SECONDS = 60
"""When a plan that failed is tried again, where no version was to blame."""

RETRIES = 1
"""Of a call to Prefect. Its own five take four minutes in which no alias is followed, where its server has ended."""


@flow(name="deploy", flow_run_name="deploy")
def deploy_flow(root: Path, retry: bool = False) -> Deployment:
    """Make the model server equal to MLflow's aliases: champion serves as stable, challenger as canary.

    Args:
        root: the workspace.
        retry: try a version again that has failed.

    Raises DeployFailed, NotProven, RegistryUnreachable: each with one line for a person.
    """
    workspace = Workspace.at(root, Settings())
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        get_run_logger().info(line)
        lines.append(line)

    came_to = ""
    try:
        done = deploy(workspace, say=say, retry=retry)
        came_to = str(done)
        return done
    except Exception as error:
        came_to = f"failed: {describe(error)}"
        raise
    finally:
        try:
            told = [f"# {came_to}", "", *(f"- {line}" for line in lines), "", *_last_changes(workspace)]
            create_markdown_artifact("\n".join(told), key="deployment", description=str(root))
        except Exception as error:  # it only tells what was done
            print(f"WARNING: the run in Prefect has no artifact: {describe(error)}", flush=True)


def _last_changes(workspace: Workspace) -> list[str]:
    rows = [
        f"| {one.at.astimezone():%Y-%m-%d %H:%M:%S} | {one.alias} | {one.from_version or ''} | {one.to_version} "
        f"| {one.outcome} | {one.who} | {one.reason} |"
        for one in reversed(history(workspace)[-10:])
    ]
    return ["## Last changes", "", "| when | alias | from | to | outcome | by | reason |", f"|{'---|' * 7}", *rows]


class _Wrong:
    """What is wrong, as look after look finds it: each line is said once, until it is another or right again."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._before: list[str] = []
        self._now: list[str] = []

    def add(self, line: str) -> None:
        if line not in self._before + self._now:
            self._say(f"WARNING: {line}")
        self._now.append(line)

    def looked(self) -> None:
        if self._before and not self._now:
            self._say("deploy: all is right again")
        self._before, self._now = self._now, []


def watch(
    workspace: Workspace,
    every: float,
    say: Callable[[str], None] = print,
    ended: Callable[[float], bool] = lambda seconds: time.sleep(seconds) or False,
) -> None:
    """Look at the aliases every so many seconds, and run the flow when the plan is not empty.

    Where Prefect does not answer, it is deployed without a flow run.
    What is wrong is said once, until it is another thing or right again. `ended` waits and says whether to stop.
    """
    wrong = _Wrong(say)
    tried: list[Step] = []
    again, failure = 0.0, ""  # when the steps that were tried last may be tried again, and how they failed
    while True:
        try:
            url = get_current_settings().api.url
            if url and not answers(url):
                wrong.add(f"Prefect does not answer at {url}: until it runs, aliases are followed without flow runs")
                url = None
            seen = look(workspace)
            for line in seen.plan.warnings:
                wrong.add(line)
            steps = list(seen.plan.steps)
            if steps and (steps != tried or time.monotonic() >= again):
                failure = ""
                try:
                    if url is None or not _ran(workspace, wrong):
                        deploy(workspace, say=say)
                except Exception as error:
                    failure = describe(error)
                tried, again = steps, time.monotonic() + AGAIN_SECONDS
            if steps and failure:
                wrong.add(failure)
        except Exception as error:  # whatever it is, what serves goes on serving, and the next look may find it right
            wrong.add(describe(error))
        wrong.looked()
        if ended(every):
            return


def _ran(workspace: Workspace, wrong: _Wrong) -> bool:
    """Whether the flow ran to its end in Prefect. Raises what deploy raises."""
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: RETRIES}):
            deploy_flow(workspace.root)
    except Exception as error:
        if hasattr(error, "exit_code"):  # deploy's own word
            raise
        wrong.add(f"the flow run broke off: {describe(error)}; deploying without Prefect")
        return False
    return True
