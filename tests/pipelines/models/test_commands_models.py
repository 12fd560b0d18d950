"""`photoproof promote`, `candidate`, `deploy` and `serve`, as a person types them."""

import json
import os
import subprocess
import sys

import pytest

from pipelines import registry


@pytest.fixture
def photoproof(workspace):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "photoproof", *words],
            cwd=workspace.root,
            env={name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.mark.slow
def test_from_a_version_to_what_serves(photoproof, register, workspace):
    register("m-one")

    refused = photoproof("serve")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "photoproof: nothing is deployed yet: first `photoproof promote VERSION`, then `photoproof deploy`"
    ]

    refused = photoproof("promote", "9")
    assert refused.returncode == 7
    assert refused.stderr.splitlines() == ["photoproof: product-encoder has no version 9; its versions: 1"]

    decided = photoproof("candidate", "--json")
    assert json.loads(decided.stdout)["accepted"] is True
    assert registry.versions_by_alias(workspace) == {"challenger": 1}

    done = photoproof("promote", "challenger")
    assert done.stdout == "promote: champion is version 1; `photoproof deploy` serves it\n"

    done = photoproof("deploy", "--dry-run")
    assert done.stdout.splitlines()[0] == "would fetch version 1 from MLflow"

    done = photoproof("deploy", "--json")
    assert json.loads(done.stdout)["labels"] == {"stable": 1, "canary": 1}

    done = photoproof("deploy")
    served = "canary is version 1, stable is version 1; no server runs: `photoproof serve` starts one"
    assert done.stdout == f"deploy: nothing to do; {served}\n"
    assert done.stderr == ""
