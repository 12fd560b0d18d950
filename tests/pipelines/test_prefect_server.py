import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pipelines.prefect_server import PrefectUnavailable, free_port, prefect_api
from pipelines.workspace import Workspace


def test_one_server_is_shared_and_its_last_user_stops_it(workspace: Workspace) -> None:
    with prefect_api(workspace) as first:
        pid = int((workspace.state / "prefect" / "server.pid").read_text().split()[0])
        del os.environ["PREFECT_API_URL"]  # as another command of the same workspace finds it
        with prefect_api(workspace) as second:
            assert second == first
        assert httpx.get(f"{first}/health").status_code == 200
        os.environ["PREFECT_API_URL"] = first
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{first}/health")


def test_a_server_that_is_named_and_does_not_answer_is_one_clear_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    with (
        pytest.raises(PrefectUnavailable, match="no Prefect server answers at PREFECT_API_URL"),
        prefect_api(workspace),
    ):
        pass


def test_importing_the_server_module_imports_no_prefect() -> None:
    code = "import sys, pipelines.prefect_server; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
