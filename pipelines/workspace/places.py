"""A workspace: a git clone in which commands act, where each thing in it lies, and its product database."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipelines.workspace.settings import Settings
from training.stage import places
from training.stage.errors import BadInput


@dataclass(frozen=True)
class Workspace:
    """Paths of a workspace, and its product database. Nothing is made by naming it."""

    root: Path
    database: str | None = field(default=None, repr=False)  # it may contain a password
    """SQLAlchemy URL of the product database; by default SQLite in .photoproof/."""

    @classmethod
    def here(cls, settings: Settings | None = None) -> "Workspace":
        """The workspace that the settings name. Raises BadInput where dvc.yaml is missing."""
        settings = settings or Settings()
        root = settings.workspace.resolve()
        if not (root / "dvc.yaml").is_file():
            raise BadInput(
                f"{root} is not a workspace (dvc.yaml is missing): go into a clone, or name one with "
                "PHOTOPROOF_WORKSPACE"
            )
        return cls.at(root, settings)

    @classmethod
    def at(cls, root: Path, settings: Settings) -> "Workspace":
        """The workspace at `root`, with the product database that the settings name."""
        return cls(root, settings.database_url)

    @cached_property
    def state(self) -> Path:
        """What is not versioned."""
        return self.root / places.STATE

    @property
    def data(self) -> Path:
        """Pictures and manifest.parquet, versioned by DVC."""
        return self.root / places.DATA

    @property
    def params(self) -> Path:
        """Every knob a retraining may turn."""
        return self.root / places.PARAMS

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the product database."""
        return self.database or f"sqlite:///{self.state / 'database.sqlite'}"

    @property
    def serving(self) -> Path:
        """models.config and product-encoder/VERSION/."""
        return self.state / "serving"

    @property
    def logs(self) -> Path:
        """Output of servers."""
        return self.state / "logs"

    @property
    def reports(self) -> Path:
        """What validation and evaluation found."""
        return self.root / places.REPORTS

    @property
    def models(self) -> Path:
        """What training, evaluation and export made."""
        return self.root / places.MODELS
