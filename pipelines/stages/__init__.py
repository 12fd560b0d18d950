"""A stage of dvc.yaml in a process of its own."""
