"""The command `photoproof`: what it prints, how it ends, and the commands that others add."""

import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from photoproof.command_line.cli import app, run

PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in ("PHOTOPROOF_SERVER", "PHOTOPROOF_VERBOSE", "PHOTOPROOF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def answer_with(server, probability: float) -> None:
    from photoproof.transport._proto import wire_pb2

    response = wire_pb2.PredictResponse.FromString(server.answers[PREDICT](b""))
    response.outputs["probability"].float_val[:] = [probability]
    server.answers[PREDICT] = lambda request: response.SerializeToString()


@pytest.mark.parametrize(
    ("probability", "code", "outcome"),
    [(0.95, 0, "match"), (0.25, 3, "mismatch"), (0.75, 4, "review")],
)
def test_the_exit_code_tells_the_outcome(scripted_server, pair, capsys, probability, code, outcome):
    answer_with(scripted_server, probability)
    assert run(["verify", str(pair[0]), str(pair[1]), "--server", scripted_server.url]) == code
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].startswith(f"{outcome}: probability {probability:.3f} is ")
    assert printed.out.splitlines()[1].endswith("product-encoder version 3, model scripted")
    assert printed.err == ""


def test_a_copy_is_exit_code_5(scripted_server, pair, capsys):
    assert run(["verify", str(pair[0]), str(pair[0]), "--server", scripted_server.url]) == 5
    assert capsys.readouterr().out.startswith("identical: ")


def test_json_holds_the_whole_verdict(scripted_server, pair, capsys, monkeypatch):
    monkeypatch.setenv("PHOTOPROOF_SERVER", scripted_server.url)
    assert run(["verify", str(pair[0]), str(pair[1]), "--json"]) == 4
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["outcome"] == "review" and verdict["model_version"] == 3
    assert set(verdict) >= {"similarity", "accept_at", "reject_at", "photo_sha256", "reason", "model_id"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["verify", "/nowhere/a.jpg", "{photo}"], 2, "photoproof: /nowhere/a.jpg: no such file\n"),
        (["verify", "{photo}"], 2, "photoproof: Missing argument 'PHOTO'. See `photoproof verify --help`.\n"),
        (["verify", "{original}", "{photo}", "--server", "nonsense"], 2, "is not a server address"),
        (["status", "--server", "https://localhost", "--ca", "{photo}"], 2, "photo.jpg can't be read as a PEM file"),
        (["verify", "{original}", "{photo}", "--no-such"], 2, "No such option"),
        (["verify", "{original}", "{photo}", "--server", "grpc://127.0.0.1:1"], 6, "127.0.0.1:1 can't be reached"),
        (["no-such-command"], 2, "no command 'no-such-command' is installed here"),
    ],
    ids=["no file", "no photo", "no address", "no authority", "no option", "no server", "no command"],
)
def test_what_goes_wrong_is_one_line_and_its_exit_code(pair, capsys, arguments, code, message):
    words = [word.format(original=pair[0], photo=pair[1]) for word in arguments]
    assert run(words) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err and printed.err.startswith("photoproof: ") and printed.err.count("\n") == 1


@pytest.mark.parametrize("command", ["verify", "encode", "status"])
def test_the_readme_documents_each_command_with_its_options(command):
    readme = (Path(__file__).parents[4] / "serving/client/README.md").read_text()
    program: Any = typer.main.get_command(app)
    parameters = [*program.params, *program.commands[command].params]
    options = {option for parameter in parameters for option in parameter.opts if option.startswith("-")}
    assert options >= {"-v", "--version", "--server", "--json"}
    assert f"photoproof {command}" in readme
    assert {option for option in options if f"`{option}`" not in readme} == set()


@pytest.mark.parametrize("protocol", ["grpc_url", "rest_url"])
def test_the_commands_against_the_model_server(model_server, pair, capsys, protocol):
    server = ["--server", getattr(model_server, protocol)]
    assert run(["status", *server]) == 0
    assert "  version 1  AVAILABLE  <- stable\nit can verify, encode, compare and score\n" in capsys.readouterr().out
    assert run(["status", "--json", "--label", "canary", *server]) == 7
    assert json.loads(capsys.readouterr().out)["version"] is None
    assert run(["encode", str(pair[0]), *server]) == 0
    assert capsys.readouterr().out.startswith("8 numbers of model toy-1:\n")
    assert run(["encode", str(pair[0]), "--json", *server]) == 0
    assert len(json.loads(capsys.readouterr().out)["vector"]) == 8
    assert run(["verify", str(pair[0]), str(pair[1]), "--label", "canary", *server]) == 7
    assert "(available versions: 1)" in capsys.readouterr().err


def test_a_report_shows_both_pictures_and_the_score(scripted_server, pair, tmp_path, capsys):
    answer_with(scripted_server, 0.25)
    file = tmp_path / "report.png"
    words = ["verify", str(pair[0]), str(pair[1]), "--server", scripted_server.url, "--report", str(file)]
    assert run(words) == 3
    assert capsys.readouterr().out.endswith(f"report: {file}\n")
    report = Image.open(file).convert("RGB")
    assert report.size == (1200, 880)
    red = (192, 54, 44)
    assert report.getpixel((600, 4)) == red, "the outcome's colour at the top"
    place = 0.5 + math.log(0.25 / 0.75) / (2 * math.log(0.9995 / 0.0005))
    assert report.getpixel((48 + round(1104 * place), 684)) == red, "the mark at a quarter, by log-odds"
    for file, left in zip(pair, (48, 616), strict=True):
        shown = report.crop((left + 100, 184 + 100, left + 436, 184 + 320)).resize((8, 8))
        # Three times as large, 360 x 270, in the middle of a frame of 536 x 420.
        wanted = Image.open(file).resize((360, 270)).crop((12, 25, 348, 245)).resize((8, 8))
        assert np.abs(np.asarray(shown, int) - np.asarray(wanted, int)).max() < 30


def test_a_report_that_cannot_be_written_is_one_line_behind_the_verdict(scripted_server, pair, capsys):
    words = ["verify", str(pair[0]), str(pair[1]), "--server", scripted_server.url, "--report", "/nowhere/report.png"]
    assert run(words) == 2
    printed = capsys.readouterr()
    assert printed.out.startswith("review: probability 0.750 is ") and "report" not in printed.out
    assert printed.err == "photoproof: /nowhere/report.png can't be written: No such file or directory\n"


def test_a_timeout_that_is_given_waits_for_a_server_that_restarts(scripted_server, pair, capsys):
    """For longer than the four tries that are made else take; their pauses are 1.5 seconds at most."""
    scripted_server.stop()
    back = []

    def come_back() -> None:
        time.sleep(2.5)
        back.append(type(scripted_server)(scripted_server.port))
        back[0].answers[PREDICT] = scripted_server.answers[PREDICT]

    thread = threading.Thread(target=come_back)
    thread.start()
    code = run(["verify", str(pair[0]), str(pair[1]), "--server", scripted_server.url, "--timeout", "60"])
    thread.join()
    back[0].stop()
    assert (code, capsys.readouterr().err) == (4, "")


def test_the_version_and_the_help_page(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("photoproof 0.")
    assert run([]) == 0
    assert "verify" in capsys.readouterr().out


ADDED = '''
import pathlib
import typer

pathlib.Path(__file__).with_name("imported").touch()


class TooFewPhotos(Exception):
    """Meant for people."""

    exit_code = 2


def count(number: int, fail: bool = False, crash: bool = False, stop: bool = False) -> int:
    """Count to a number.

    More about counting.
    """
    if fail:
        raise TooFewPhotos("only 3 photos,\\nbut 5 are needed")
    if crash:
        raise RuntimeError("oh no")
    if stop:
        raise KeyboardInterrupt
    print("counted", number)
    return number


tools = typer.Typer(help="Tools of several kinds.")


@tools.command()
def hammer() -> None:
    """Hit."""
    print("hit")


@tools.command()
def saw() -> None:
    """Cut."""
'''


@pytest.fixture
def added(tmp_path: Path):
    """A distribution with commands of its own; returns a way to run `photoproof` where it is installed."""
    (tmp_path / "added_commands.py").write_text(ADDED)
    info = tmp_path / "added-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[photoproof.commands]\ncount = added_commands:count\ntools = added_commands:tools\nlost = no_such_module:it\n"
    )

    def call(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "100", **settings}
        command = [sys.executable, "-m", "photoproof.command_line.cli", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    return call


def test_added_commands_are_listed_with_their_first_line_and_not_imported(added, tmp_path):
    page = added("--help").stdout
    assert "Count to a number." in page and "Tools of several kinds." in page and "lost" in page
    assert not (tmp_path / "imported").exists()


def test_an_added_function_runs_and_its_int_is_the_exit_code(added):
    done = added("count", "9")
    assert (done.stdout, done.returncode) == ("counted 9\n", 9)


def test_an_added_app_runs_its_own_commands(added):
    assert added("tools", "hammer").stdout == "hit\n"


def test_an_exception_with_an_exit_code_is_one_line(added):
    done = added("count", "9", "--fail")
    assert (done.stderr, done.returncode) == ("photoproof: only 3 photos, but 5 are needed\n", 2)


def test_an_unexpected_exception_is_one_line_and_1(added):
    done = added("count", "9", "--crash")
    assert done.stderr == "photoproof: RuntimeError: oh no (`photoproof -v ...` shows where)\n"
    assert done.returncode == 1


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_traceback_is_shown_when_asked_for(added, how):
    words = (["-v"] if how == "option" else []) + ["count", "9", "--crash"]
    done = added(*words, **({"PHOTOPROOF_VERBOSE": "1"} if how == "variable" else {}))
    assert "Traceback" in done.stderr and done.returncode == 1


def test_an_interrupted_command_ends_quietly_with_130(added):
    done = added("count", "9", "--stop")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 130)


def test_a_command_that_cannot_be_loaded_is_one_line(added):
    done = added("lost")
    assert "No module named 'no_such_module'" in done.stderr
    assert done.stderr.count("\n") == 1 and done.returncode == 1


def test_help_and_version_import_neither_grpc_nor_httpx(added):
    script = "import sys; from photoproof.command_line.cli import app, run; run(['--help']); "
    script += "print(set(sys.modules) & {'grpc', 'httpx'})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
