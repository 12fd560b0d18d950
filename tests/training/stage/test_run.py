import logging
import os
import sys

import pytest

from training.stage.quiet import hushed


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
