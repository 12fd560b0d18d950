"""The client as other teams install it: its wheel alone, in environments of its own, on old and new Pythons."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[3] / "serving" / "client"
OLDEST = [
    "grpcio==1.60.0",
    "protobuf==5.26.1",
    "numpy==1.26.0",
    "pillow==10.3.0",
    "httpx==0.27.0",
    "tenacity==8.2.0",
    "typer==0.12.4",
    "click==8.1.7",  # of typer's age: with a newer one no program of typer 0.12 reads its flags right
]
MEASURE = """if True:
    import json, re, sys, time
    start = time.process_time()
    import photoproof
    seconds = time.process_time() - start
    import photoproof.transport.grpc_transport
    memory = int(re.search("VmHWM:\\s*([0-9]+)", open("/proc/self/status").read())[1]) / 1024
    print(json.dumps({"seconds": seconds, "memory": memory, "tensorflow": "tensorflow" in sys.modules}))
"""


def python_of(version: str) -> str | None:
    """An interpreter of that version: on the PATH, or pyenv's."""
    on_path = shutil.which(f"python{version}")
    pyenv = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    for python in (*map(str, pyenv), on_path):
        if python and not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
            return python
    return None


def uv(*words: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uv", *map(str, words)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "client"
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module", params=["3.10 oldest", "3.10", "3.11", "3.12", "3.13"])
def installed(request, wheel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment with the client and nothing else."""
    version, _, which = request.param.partition(" ")
    python = python_of(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    folder = tmp_path_factory.mktemp("environment")
    uv("venv", "--quiet", "--python", python, folder)
    uv("pip", "install", "--quiet", "--python", folder / "bin" / "python", wheel, *(OLDEST if which else []))
    return folder / "bin"


def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PHOTOPROOF"))}
    command = [str(word) for word in words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_the_wheel_says_that_it_is_typed(wheel):
    assert "photoproof/py.typed" in zipfile.ZipFile(wheel).namelist()


@pytest.mark.slow
def test_the_wheel_alone_verifies_over_both_protocols(installed, model_server, pair, tmp_path):
    for url in (model_server.grpc_url, model_server.rest_url):
        report = tmp_path / "report.png"
        done = call(installed / "photoproof", "verify", *pair, "--server", url, "--json", "--report", report)
        assert done.stderr == "" and done.returncode in (0, 3, 4)
        assert json.loads(done.stdout)["model_id"] == "toy-1"
        assert report.stat().st_size > 1000
    script = (
        "import asyncio, sys, photoproof\n"
        "async def ask():\n"
        "    async with photoproof.AsyncVerifier(sys.argv[1]) as verifier:\n"
        "        return await verifier.verify(*sys.argv[2:])\n"
        "print(asyncio.run(ask()).model_id)"
    )
    done = call(installed / "python", "-W", "error", "-c", script, model_server.grpc_url, *pair)
    assert (done.stdout, done.stderr) == ("toy-1\n", "")
    unknown = call(installed / "photoproof", "retrain")
    assert unknown.returncode == 2 and "no command 'retrain' is installed here" in unknown.stderr


@pytest.mark.slow
def test_it_is_light(installed):
    measured = [json.loads(call(installed / "python", "-c", MEASURE).stdout) for _ in range(3)]
    assert min(run["seconds"] for run in measured) <= 0.6
    assert min(run["memory"] for run in measured) <= 80
    assert not measured[0]["tensorflow"]
    (packages,) = installed.parent.glob("lib/python*/site-packages")
    size = sum(
        file.stat().st_size for file in packages.rglob("*") if file.is_file() and "__pycache__" not in file.parts
    )
    assert size <= 120 * 10**6
