"""A version's files, fetched from MLflow."""

import errno
import os
import re
from pathlib import Path

from pipelines.registry.connection import client_of
from pipelines.registry.versions import MODEL, get_version
from pipelines.workspace.places import Workspace

ARTIFACT, EVIDENCE = "saved_model", "evidence"
"""Names, in a version's artifacts, of the folder that export wrote and of that of pipelines/registry/evidence.py."""


class NoRoom(RuntimeError):
    """The disk, or a quota, has no room for a version."""

    exit_code = 1


def download(workspace: Workspace, version: int, folder: Path) -> Path:
    """The version's SavedModel, fetched into the empty folder `folder`; the path of the SavedModel in it.

    Raises VersionNotFound, RegistryUnreachable.
    """
    with client_of(workspace) as client:
        get_version(client, version)
        return _fetch(version, ARTIFACT, folder)


def download_part(workspace: Workspace, version: int, part: str, folder: Path) -> Path | None:
    """A file or folder of the version's artifacts, by its path, fetched into `folder`; None where it is missing.

    Raises VersionNotFound, RegistryUnreachable.
    """
    with client_of(workspace) as client:
        from mlflow.artifacts import list_artifacts

        get_version(client, version)
        uri = f"models:/{MODEL}/{version}/artifacts"
        for name in part.split("/"):
            if not any(Path(artifact.path).name == name for artifact in list_artifacts(artifact_uri=uri)):
                return None
            uri += f"/{name}"
        return _fetch(version, part, folder)


def _fetch(version: int, part: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    folder.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{MODEL}/{version}/artifacts/{part}"
    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except Exception as error:
        # MLflow gives the system's error as text alone.
        match = re.search(r"\[Errno (\d+)\]", str(error))
        if match and int(match[1]) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoRoom(f"could not fetch version {version} to {folder}: {os.strerror(int(match[1]))}") from error
        raise
