"""The deploy flow, and the watch that starts it when MLflow's aliases ask for something."""

import time
from collections.abc import Callable
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from pipelines.deploy import Deployment, deploy, look
from pipelines.deploy_plan import Step
from pipelines.deployments import history
from pipelines.workspace import Workspace
from training.stage import describe

AGAIN_SECONDS = 60
"""When a plan that failed is tried again, where no version was to blame."""


@flow(name="deploy", flow_run_name="deploy")
def deploy_flow(root: Path, retry: bool = False) -> Deployment:
    """Make the model server equal to MLflow's aliases: champion serves as stable, challenger as canary.

    Args:
        root: the workspace.
        retry: try a version again that has failed.

    Raises DeployFailed, NotProven, RegistryUnreachable: each with one line for a person.
    """
    workspace = Workspace(root)
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
        told = [f"# {came_to}", "", *(f"- {line}" for line in lines), "", *_last_changes(workspace)]
        create_markdown_artifact("\n".join(told), key="deployment", description=str(root))


def _last_changes(workspace: Workspace) -> list[str]:
    rows = [
        f"| {one.at.astimezone():%Y-%m-%d %H:%M:%S} | {one.alias} | {one.from_version or ''} | {one.to_version} "
        f"| {one.outcome} | {one.who} | {one.reason} |"
        for one in reversed(history(workspace)[-10:])
    ]
    return ["## Last changes", "", "| when | alias | from | to | outcome | by | reason |", f"|{'---|' * 7}", *rows]


def watch(
    workspace: Workspace,
    every: float,
    say: Callable[[str], None] = print,
    ended: Callable[[float], bool] = lambda seconds: time.sleep(seconds) or False,
) -> None:
    """Look at the aliases every so many seconds, and run the flow when the plan is not empty.

    What is wrong is said once, until it is another thing or right again. `ended` waits and says whether to stop.
    """
    told: list[str] = []
    tried: tuple[list[Step], float] | None = None
    while True:
        wrong: list[str] = []
        try:
            seen = look(workspace)
            steps = list(seen.plan.steps)
            wrong = [f"WARNING: {line}" for line in seen.plan.warnings]
            if steps and not (tried and tried[0] == steps and time.monotonic() < tried[1]):
                tried = (steps, time.monotonic() + AGAIN_SECONDS)
                deploy_flow(workspace.root)
                told = []
        except Exception as error:  # whatever it is, what serves goes on serving, and the next look may find it right
            wrong.append(f"WARNING: {describe(error)}")
        for line in wrong:
            if line not in told:
                say(line)
        if told and not wrong:
            say("deploy: all is right again")
        told = wrong
        if ended(every):
            return
