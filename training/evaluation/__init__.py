"""What verdicts are worth."""
