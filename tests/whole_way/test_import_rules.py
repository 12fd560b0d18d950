"""What a stage of dvc.yaml depends on is what it imports; .importlinter holds which room may import which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
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
    """A folder among the deps stands for all modules in it; each folder and each file is there for some import."""
    deps = yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    code = [CHECKOUT / dep for dep in deps if dep.startswith("training/")]
    needed = set(modules_behind(stage))
    missing = {path for path in needed if not {path, *path.parents} & set(code)}
    assert not missing, f"dvc.yaml, stage {stage}: add {relative(missing)}"
    idle = {dep for dep in code if not any(dep in (path, *path.parents) for path in needed)}
    assert not idle, f"dvc.yaml, stage {stage}: it imports nothing of {relative(idle)}"
    twice = {dep for dep in code if code.count(dep) > 1 or set(dep.parents) & set(code)}
    assert not twice, f"dvc.yaml, stage {stage}: {relative(twice)} is named twice, or its folder is named too"


def relative(paths: set[Path]) -> list[str]:
    return sorted(path.relative_to(CHECKOUT).as_posix() for path in paths)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_writes_nothing_that_dvc_would_push(stage: str) -> None:
    for out in yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"][stage]["outs"]:
        assert next(iter(out.values()))["push"] is False


def test_no_committed_file_names_a_package_registry() -> None:
    lock = (CHECKOUT / "requirements.lock").read_text()
    assert "://" not in lock
    assert lock.count("--hash=sha256:") > lock.count("==") > 100
