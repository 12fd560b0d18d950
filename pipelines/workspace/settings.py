"""What the environment sets: every variable that the application reads."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


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
