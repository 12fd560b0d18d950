import pytest

from pipelines.workspace.places import Workspace


@pytest.fixture
def workspace(bare_workspace: Workspace) -> Workspace:
    return bare_workspace
