"""MLflow: versions, their files and their pages."""
