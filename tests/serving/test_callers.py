"""docs/callers.md: each of its calls, run as it is printed, gives the client's verdict."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from photoproof import Verdict, Verifier
from photoproof.signatures import SIGNATURES

PAGE = Path(__file__).resolve().parents[2] / "docs/callers.md"
NODE_WITH_FETCH = 18


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def node() -> str:
    """The node of this machine, or skips."""
    path = shutil.which("node")
    if not path:
        pytest.skip("node is not on this machine")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"\d+", version)[0]) < NODE_WITH_FETCH:
        pytest.skip(f"node {version.strip()} has no fetch")
    return path


@pytest.fixture(scope="module")
def verdicts(photoproof) -> dict[str, Verdict]:
    """What the client says: of a photo of the original's product, and of one of another's."""
    with Verifier(photoproof.server.grpc_url, timeout=60) as verifier:
        photos = {"its own": photoproof.photos[0], "another's": photoproof.photos[-1]}
        return {name: verifier.verify(photoproof.originals[0], photo) for name, photo in photos.items()}


@pytest.fixture(params=["its own", "another's"])
def case(request, photoproof, verdicts, tmp_path, monkeypatch) -> Verdict:
    """A folder with original.jpg and photo.jpg to be in, and the client's verdict of them."""
    photo = photoproof.photos[0 if request.param == "its own" else -1]
    shutil.copy(photoproof.originals[0], tmp_path / "original.jpg")
    shutil.copy(photo, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return verdicts[request.param]


@pytest.fixture
def at_server(photoproof):
    """Makes a block of the page ask the server of this test."""
    ports = {"localhost:8501": photoproof.server.rest_port, "localhost:8500": photoproof.server.grpc_port}

    def put(block: str) -> str:
        for address, port in ports.items():
            block = block.replace(address, f"localhost:{port}")
        return block

    return put


def says_the_same(row: dict, verdict: Verdict) -> bool:
    numbers = ("similarity", "distance", "probability", "accept_at", "reject_at")
    assert {name: row[name] for name in numbers} == pytest.approx(
        {name: getattr(verdict, name) for name in numbers}, abs=1e-5
    )
    return row["decoded"] is True and row["model_id"] == verdict.model_id


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on this machine")
def test_curl_in_column_form(case, at_server):
    answer = subprocess.run(["bash", "-c", at_server(blocks("bash")[0])], capture_output=True, text=True, check=True)
    assert says_the_same({name: column[0] for name, column in json.loads(answer.stdout)["outputs"].items()}, case)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on this machine")
def test_curl_in_row_form(case, at_server):
    answer = subprocess.run(["bash", "-c", at_server(blocks("bash")[1])], capture_output=True, text=True, check=True)
    (row,) = json.loads(answer.stdout)["predictions"]
    assert says_the_same(row, case)


def test_javascript(case, at_server, tmp_path):
    (tmp_path / "call.mjs").write_text(at_server(blocks("javascript")[0]))
    answer = subprocess.run([node(), "call.mjs"], capture_output=True, text=True, check=True, timeout=60)
    outcome, probability, model_id = answer.stdout.split()
    assert (outcome, model_id) == (case.outcome, case.model_id)
    assert float(probability) == pytest.approx(case.probability, abs=1e-5)


def test_javascript_says_that_a_picture_was_not_read(case, at_server, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"GIF89a")
    (tmp_path / "call.mjs").write_text(at_server(blocks("javascript")[0]))
    answer = subprocess.run([node(), "call.mjs"], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 1
    assert "is not a JPEG or PNG that the model reads" in answer.stderr


def test_grpc_from_the_public_protos(case, at_server, capsys):
    (block,) = blocks("python")
    exec(compile(at_server(block), "callers.md", "exec"), {})  # in this process: TensorFlow takes long to import
    outcome, probability, model_id, version = capsys.readouterr().out.split()
    assert (outcome, model_id, version) == (case.outcome, case.model_id, "1")
    assert float(probability) == pytest.approx(case.probability, abs=1e-5)


def test_the_pages_table_of_signatures_is_the_clients():
    def tensors(cell: str) -> dict[str, tuple[str, int]]:
        """Name -> (dtype, number of dimensions) of a cell such as `a`, `b` float32 [N, D]; `c` bool [N]."""
        kinds = {}
        for part in cell.split(";"):
            (kind, dimensions), names = re.findall(r"(\w+) \[(.*?)\]", part)[0], re.findall(r"`(\w+)`", part)
            kinds |= dict.fromkeys(names, (kind, dimensions.count(",") + 1))
        return kinds

    section = PAGE.read_text().partition("## The signatures")[2].partition("\n## ")[0]
    documented = {
        name: (tensors(inputs), tensors(outputs))
        for name, inputs, outputs in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", section, re.MULTILINE)
    }
    of_the_client = {
        name: tuple(
            {key: (tensor.dtype, len(tensor.shape or ())) for key, tensor in side.items()}
            for side in (signature.inputs, signature.outputs)
        )
        for name, signature in SIGNATURES.items()
    }
    assert documented == of_the_client


def test_the_pages_javascript_is_about_ten_lines():
    assert len(blocks("javascript")[0].strip().splitlines()) <= 12
