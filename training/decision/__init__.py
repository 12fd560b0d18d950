"""What evaluation and the served graph share: the log-ratio and the decision on it."""
