"""A workspace: a git clone in which commands act, and where each thing in it lies."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipelines.workspace.settings import Settings
from training.stage import places
from training.stage.errors import BadInput


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
        return self.root / places.REPORTS

    @property
    def models(self) -> Path:
        """What training, evaluation and export made."""
        return self.root / places.MODELS
