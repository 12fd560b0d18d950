"""The connection to MLflow: a client of the workspace's registry, whose errors are one line each."""

import contextlib
import logging
import os
import ssl
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

from pipelines.workspace.places import Workspace
from training.stage import tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient


class RegistryUnreachable(RuntimeError):
    """MLflow does not answer, or breaks off."""

    exit_code = 6


@contextlib.contextmanager
def client_of(workspace: Workspace) -> Iterator["MlflowClient"]:
    """A client of the workspace's registry.

    Raises RegistryUnreachable, in one line, for what MLflow raises within the block; errors of ours pass.
    """
    uri = tracking.tracking_uri(workspace.root)
    if uri.startswith("http"):
        try:
            httpx.get(f"{uri.rstrip('/')}/health", timeout=10, verify=uri.startswith("https") and _tls_verification())
        except (httpx.HTTPError, OSError) as error:
            raise RegistryUnreachable(f"MLflow at {uri} does not answer: {_one_line(error)}") from None
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # of 7 the last come minutes later
    import mlflow
    from sqlalchemy.exc import SQLAlchemyError

    try:
        tracking.setup(workspace.root)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"mlflow\.")
            yield mlflow.MlflowClient()
    except (mlflow.MlflowException, SQLAlchemyError, OSError) as error:
        if hasattr(error, "exit_code"):
            raise
        raise RegistryUnreachable(f"MLflow at {uri} broke off: {_one_line(error)}") from error


def _tls_verification() -> ssl.SSLContext | bool:
    """How a server's certificate is checked: by the variables that MLflow's own client goes by. Raises OSError."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    names = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    name = next((name for name in names if os.environ.get(name)), "")
    bundle = os.environ.get(name)
    client_certificate = os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH")
    if bundle is None and client_certificate is None:
        return True
    if bundle and not os.path.exists(bundle):
        raise FileNotFoundError(f"{name} names {bundle}, which does not exist")
    folder = bundle is not None and os.path.isdir(bundle)
    context = ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
    if client_certificate:
        context.load_cert_chain(client_certificate)
    return context


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
