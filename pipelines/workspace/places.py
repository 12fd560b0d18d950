"""A workspace: a git clone in which commands act, and where each thing in it lies."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from training.stage.errors import BadInput


class Settings(BaseSettings):
    """Every environment variable that the application reads, besides MLflow's and Prefect's own."""

    model_config = SettingsConfigDict(env_prefix="PHOTOPROOF_", extra="ignore")

    workspace: Path = Path()
    """The folder that commands act on; the current one by default."""
    database_url: str | None = None
    """SQLAlchemy URL of the product database; by default SQLite in .photoproof/."""
    server: str = "grpc://localhost:8500"
    """Where verdicts are asked for."""
    servers: str = ""
    """Addresses of all model servers that deploy waits for, with commas between; by default `server` alone."""
    load_seconds: float = 180
    """How long a model server may take to load a version, or to follow a label."""
    latency_ms: float = 2000
    """The longest that a verdict may take, in the median, of a version that is to be deployed."""
    watch_seconds: float = 5
    """How often `photoproof deploy --watch` looks at MLflow's aliases."""

    @property
    def server_list(self) -> list[str]:
        """`servers` one by one; empty where it is not set."""
        return [one.strip() for one in self.servers.split(",") if one.strip()]


@dataclass(frozen=True)
class Workspace:
    """Paths of a workspace. Nothing is made by naming it."""

    root: Path

    @classmethod
    def here(cls, settings: Settings | None = None) -> "Workspace":
        """The workspace that the settings name. Raises BadInput where dvc.yaml is missing."""
        root = (settings or Settings()).workspace.resolve()
        if not (root / "dvc.yaml").is_file():
            raise BadInput(
                f"{root} is no workspace (dvc.yaml is missing): go into a clone, or name one with PHOTOPROOF_WORKSPACE"
            )
        return cls(root)

    @cached_property
    def state(self) -> Path:
        """What is not versioned."""
        return self.root / ".photoproof"

    @property
    def data(self) -> Path:
        """Pictures and manifest.parquet, versioned by DVC."""
        return self.root / "data"

    @property
    def params(self) -> Path:
        """Every knob a retraining may turn."""
        return self.root / "params.yaml"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the product database."""
        return Settings().database_url or f"sqlite:///{self.state / 'database.sqlite'}"

    @property
    def serving(self) -> Path:
        """models.config and product-encoder/VERSION/."""
        return self.state / "serving"

    @property
    def logs(self) -> Path:
        """What servers and stages printed."""
        return self.state / "logs"

    @property
    def reports(self) -> Path:
        """What validation and evaluation found."""
        return self.root / "reports"

    @property
    def models(self) -> Path:
        """What training, evaluation and export made."""
        return self.root / "models"
