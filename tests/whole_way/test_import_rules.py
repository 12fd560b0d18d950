"""Imports point one way: pipelines to training, serving and the client; the client to nothing of ours."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
CLIENT = CHECKOUT / "serving" / "client" / "src" / "photoproof"
STAGES = ("validate", "train", "evaluate", "export")


def imported(path: Path) -> set[str]:
    """Every module that a file's import statements name, those inside functions included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found, f"no Python file below {folder}"
    return found


@pytest.mark.parametrize("path", files(CHECKOUT / "training"), ids=lambda path: path.name)
def test_training_imports_no_flow_no_database_and_no_serving(path: Path) -> None:
    assert not tops(path) & {"prefect", "sqlalchemy", "pipelines", "serving", "photoproof"}


@pytest.mark.parametrize("path", files(CLIENT), ids=lambda path: path.name)
def test_the_client_imports_neither_tensorflow_nor_the_application(path: Path) -> None:
    assert not tops(path) & {"tensorflow", "tensorflow_serving", "keras", "pipelines", "training", "serving", "mlflow"}


@pytest.mark.parametrize("path", files(CHECKOUT / "serving" / "model_server"), ids=lambda path: path.name)
def test_the_model_server_knows_of_ours_only_how_a_saved_model_is_loaded(path: Path) -> None:
    ours = {name for name in imported(path) if name.split(".")[0] in {"pipelines", "training", "photoproof"}}
    assert ours <= {"training", "training.saved_model.loading"} | {
        name for name in ours if name.startswith("training.saved_model.loading.")
    }


def test_mlflow_holds_no_python_file() -> None:
    assert not list((CHECKOUT / "mlflow").rglob("*.py"))


def modules_behind(stage: str) -> Iterator[Path]:
    """The stage's module and all of training that it imports, directly or not."""
    seen: set[Path] = set()
    waiting = [CHECKOUT / "training" / f"{stage}.py"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imported(path):
            module = CHECKOUT.joinpath(*name.split(".")).with_suffix(".py")
            if name.startswith("training.") and module.is_file():
                waiting.append(module)
    yield from seen


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_the_code_that_it_imports(stage: str) -> None:
    stated = set(yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"][stage]["deps"])
    needed = {str(path.relative_to(CHECKOUT)) for path in modules_behind(stage)}
    assert needed <= stated, f"dvc.yaml, stage {stage}: add {sorted(needed - stated)}"
    assert {name for name in stated if name.endswith(".py")} <= needed


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_writes_nothing_that_dvc_would_push(stage: str) -> None:
    for out in yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"][stage]["outs"]:
        assert next(iter(out.values()))["push"] is False


def test_no_committed_file_names_a_package_registry() -> None:
    lock = (CHECKOUT / "requirements.lock").read_text()
    assert "://" not in lock
    assert lock.count("--hash=sha256:") > lock.count("==") > 100
