"""What stands between a model version and its callers."""
