import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.stage.fingerprints import PACKAGE
from training.stage.quiet import hushed, is_verbose


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has asked for more."""
    monkeypatch.delenv("PHOTOPROOF_VERBOSE", raising=False)


@pytest.mark.parametrize("arguments", [["-v"], ["--verbose"], ["tests", "-v"]])
@pytest.mark.parametrize(
    "program", ["/bin/pytest", "/lib/pytest/__main__.py", "-c", "", "/bin/mlflow", "/tmp/train.py"]
)
def test_another_programs_v_is_not_for_us(program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    assert not is_verbose()


@pytest.mark.parametrize("program", ["-m", str(PACKAGE / "train.py"), "/bin/photoproof", "/lib/photoproof/__main__.py"])
def test_a_command_of_ours_is_verbose_with_v(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, "-v"])
    assert is_verbose()
    monkeypatch.setattr(sys, "argv", [program])
    assert not is_verbose()


@pytest.mark.parametrize(
    ("value", "verbose"),
    [("", False), ("0", False), ("false", False), ("No", False), ("1", True), ("true", True), ("yes", True)],
)
def test_the_variable_says_whether(value: str, verbose: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOPROOF_VERBOSE", value)
    assert is_verbose() is verbose


@pytest.mark.parametrize(("arguments", "variable", "traceback"), [([], "0", False), (["-v"], "", True)])
def test_a_stage_shows_where_an_error_is_from_only_to_those_who_ask(
    arguments: list[str], variable: str, traceback: bool, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "training.validate", *arguments]
    environment = os.environ | {"PHOTOPROOF_VERBOSE": variable, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "validate: params.yaml not found" in done.stderr
    assert ("Traceback" in done.stderr) is traceback
    assert done.returncode == 2


def test_while_hushed_native_code_is_silent_and_python_speaks(capfd: pytest.CaptureFixture[str]) -> None:
    with hushed():
        os.write(2, b"native\n")
        print("python", file=sys.stderr)
    assert capfd.readouterr().err == "python\n"


def test_a_log_handler_made_while_hushed_speaks_afterwards_too(capfd: pytest.CaptureFixture[str]) -> None:
    with hushed():
        handler = logging.StreamHandler()
    handler.emit(logging.makeLogRecord({"msg": "later"}))
    assert capfd.readouterr().err == "later\n"


def test_afterwards_stderr_is_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr
    with hushed():
        pass
    assert sys.stderr is before
    assert not before.closed
