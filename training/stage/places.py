"""Where things lie in a workspace: paths relative to its root, as stages, flows and commands share them."""

from pathlib import Path

PARAMS = Path("params.yaml")

DATA = Path("data")
DATA_VERSION = Path("data.dvc")
"""DVC's note of which version data/ is."""
MANIFEST = "manifest.parquet"
"""In data/: a row a picture."""

REPORTS = Path("reports")
VALIDATION = REPORTS / "validation"
ACCEPTED = VALIDATION / "accepted.parquet"
QUARANTINE = VALIDATION / "quarantine.parquet"
DISTRIBUTIONS = VALIDATION / "distributions.json"
DATA_DOCS = VALIDATION / "data_docs"
"""A folder a data version."""
REFERENCE = Path("reference.json")
"""The champion's distributions, which validation compares with."""

MODELS = Path("models")
AUTOENCODER = MODELS / "autoencoder"
RUN = AUTOENCODER / "run.json"
"""Names the MLflow run of the training."""
HISTORY = AUTOENCODER / "history.json"
"""What was measured at the end of each epoch."""
LOSS_CURVES = AUTOENCODER / "losses.csv"

DECISION = MODELS / "decision"
COHORT_FILE = "cohort.npz"
DECISION_FILE = "decision.json"
GOLDEN_FILE = "golden.json"
HEADLINE_FILE = "headline.json"
EVALUATION = REPORTS / "evaluation"
METRICS_FILE = "metrics.json"
SUMMARY_FILE = "summary.json"
PAIRS_FILE = "pairs.parquet"
TABLE_FILE = "table.md"
REPORT_FILE = "report.html"
"""Files of DECISION and of EVALUATION, which evaluate writes into folders that take their place whole."""

SAVED_MODEL = MODELS / "saved_model"

STATE = Path(".photoproof")
"""What is not versioned, and can be made again."""
MLFLOW = STATE / "mlflow"
MEASURED = STATE / "measured"
CHECKPOINTS = STATE / "checkpoints"
BASELINES = STATE / "baselines"
