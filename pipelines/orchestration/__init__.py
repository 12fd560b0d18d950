"""Prefect's server, and the log of a run."""
