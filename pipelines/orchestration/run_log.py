"""A line for the person at the terminal and for the log of a flow's run."""

from prefect.logging import get_run_logger


def say(line: str) -> None:
    """One line for the person at the terminal and for the run's log."""
    print(line, flush=True)
    get_run_logger().info(line)
