"""A workspace for a test: the files of this checkout that a clone would have, in a git repository of its own."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines.workspace import Workspace

CHECKOUT = Path(__file__).resolve().parents[1]
WORKSPACE_FILES = ("training", "dvc.yaml", "params.yaml", "params.default.yaml", ".dvc", ".dvcignore", ".gitignore")


@pytest.fixture(autouse=True)
def no_outside_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have a team's servers in the environment; tests must not write there."""
    for name in list(os.environ):
        if name.startswith("PHOTOPROOF_") or name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
            monkeypatch.delenv(name)


def make_workspace(root: Path, params: dict | None = None) -> Workspace:
    """A git repository with what a clone of this checkout has, uncommitted changes included."""
    root.mkdir(parents=True)
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *WORKSPACE_FILES],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in files.stdout.splitlines():
        if name.startswith(".dvc/sample/") or not (CHECKOUT / name).is_file():
            continue
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, root / name)
    if params is not None:
        (root / "params.yaml").write_text(yaml.safe_dump(params))
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "A workspace")
    return Workspace(root.resolve())


def git(root: Path, *words: str) -> str:
    """Run git in a repository, as somebody with a name."""
    who = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", *who, *words], cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace with the committed params."""
    return make_workspace(tmp_path / "workspace")


@pytest.fixture(scope="session")
def workspace_maker() -> Callable[..., Workspace]:
    """make_workspace, for fixtures that live longer than a test."""
    return make_workspace
