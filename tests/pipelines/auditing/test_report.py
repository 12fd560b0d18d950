"""The report of an audit, and the commands around it."""

import json
import subprocess
import sys

import pytest
import yaml

from photoproof.command_line.cli import run
from pipelines.auditing.labels import PhotoDecision, label_photos
from pipelines.auditing.report import gather_findings, write_report
from pipelines.workspace.params import Audit
from training.stage.errors import BadInput
from training.stage.params import Evaluate


@pytest.fixture
def audited(claimed, copy_of):
    claimed.add_photo("second upload", "p9", claimed.photo(0, 0))
    claimed.add_photo("copy", "p1", copy_of(claimed.original(1)))
    claimed.add_photo("broken", "p1", b"<no picture>")
    claimed.audit(sample_share=0.5)
    return claimed


def test_every_claim_is_counted_once_by_outcome_and_category(audited):
    audited.add_photo("late", "p3", audited.photo(3, 9))
    findings = gather_findings(audited.engine, Audit(), Evaluate())
    assert sum(findings.counts.values()) == 44
    assert (findings.counts["identical"], findings.counts["refused"], findings.counts["not audited"]) == (1, 1, 1)
    assert {
        name: sum(counts[name] for counts in findings.categories.values()) for name in findings.counts
    } == findings.counts
    assert (
        len(findings.mismatches) == findings.counts["mismatch"] and len(findings.reviews) == findings.counts["review"]
    )
    assert findings.warnings[-1] == "1 claims are not audited yet: run `photoproof audit`"


def test_the_page_stands_alone_and_shows_what_the_json_has(audited, tmp_path):
    findings = gather_findings(audited.engine, Audit(), Evaluate())
    text = write_report(audited.engine, findings, tmp_path, shown=4, confidence=0.95).read_text()
    assert "http" not in text
    assert "&lt;no picture" not in text and "<no picture" not in text
    kept = json.loads((tmp_path / "audit.json").read_text())
    assert kept["counts"] == findings.counts
    assert [claim["photo_id"] for claim in kept["refused"]] == ["broken"]
    assert kept["mismatches"][0]["photo_id"] in text
    assert any(set(group["photo_ids"]) == {"second upload", "photo-0-0"} for group in kept["duplicates"])
    assert not list(tmp_path.glob("*.part*"))


def test_a_mismatch_says_what_it_looks_like(audited):
    rows = [
        row
        for row in gather_findings(audited.engine, Audit(), Evaluate()).mismatches
        if row.photo_id.endswith(("-2", "-3"))
    ]
    assert rows
    assert any(row.looks_like == f"looks like p{row.photo_id.split('-')[1]}" for row in rows)


def test_nothing_audited_is_one_line(catalogue):
    with pytest.raises(BadInput, match="run `photoproof audit`"):
        gather_findings(catalogue.engine, Audit(), Evaluate())


def test_the_report_states_the_rates_of_decisions_so_far(audited):
    before = gather_findings(audited.engine, Audit(), Evaluate()).rates[0]
    label_photos(audited.engine, [PhotoDecision(f"photo-{product}-0", f"p{product}") for product in range(10)])
    after = gather_findings(audited.engine, Audit(confidence=0.9), Evaluate()).rates[0]
    assert before.decided == 0 < after.decided <= 10
    assert after.false_reject.claims == after.decided


@pytest.fixture
def workspace(claimed, tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"audit": {"sample_share": 0.3}}))
    monkeypatch.setenv("PHOTOPROOF_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("PHOTOPROOF_SERVER", claimed.server)
    monkeypatch.setenv("PHOTOPROOF_DATABASE_URL", claimed.engine.url.render_as_string(hide_password=False))
    return tmp_path


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_queue_label_and_report_by_command(workspace, claimed, capsys):
    claimed.audit(sample_share=0.3)
    assert run(["audit", "queue", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert run(["label", first["photo_id"], first["claimed_product_id"]]) == 0
    assert run(["label", "nobody", "--wrong"]) == 2
    assert run(["label"]) == 2
    capsys.readouterr()
    assert run(["audit", "queue", "--json"]) == 0
    assert first["photo_id"] not in capsys.readouterr().out
    assert run(["audit", "report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rates"][0]["decided"] <= 1
    assert (workspace / "reports" / "audit" / "index.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_flow_audits_all_and_ends_with_a_report(workspace, claimed):
    words = [sys.executable, "-m", "photoproof", "audit", "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert sum(outcome["outcomes"].values()) == sum(outcome["counts"].values()) == 40
    assert (workspace / "reports" / "audit" / "audit.json").is_file()
