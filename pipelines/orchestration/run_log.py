"""Lines of a flow's run, at the terminal and in Prefect."""

from prefect.logging import get_run_logger


def log_line(line: str) -> None:
    """Print a line for the person at the terminal, and leave it in the run's log in Prefect."""
    print(line, flush=True)
    get_run_logger().info(line)
