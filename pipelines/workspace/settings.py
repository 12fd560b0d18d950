"""Environment variables of the application."""

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
    """Address of the model server that gives verdicts; where it is not set, one that `photoproof serve` started."""
    servers: str = ""
    """Addresses of all model servers that deploy waits for, with commas between; by default `server` alone."""
    load_seconds: float = 180
    """How long a model server may take to load a version, or to move a label."""
    latency_ms: float = 2000
    """How long a verdict may take, in the median, for a version to be deployed."""
    watch_seconds: float = 5
    """How often `photoproof deploy --watch` looks at MLflow's aliases."""

    @property
    def server_list(self) -> list[str]:
        """The addresses in `servers`; empty where it is not set."""
        return [address.strip() for address in self.servers.split(",") if address.strip()]

    @classmethod
    def variables(cls) -> list[str]:
        """The names of the variables, in capitals; the environment's may be in any case."""
        prefix = cls.model_config.get("env_prefix", "")
        return [f"{prefix}{name}".upper() for name in cls.model_fields]
