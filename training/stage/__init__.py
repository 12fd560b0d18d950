"""What is around every stage: params, errors, files, the MLflow run."""
