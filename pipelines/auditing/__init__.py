"""Claims against the model that serves: verdicts, what people decide, live rates, the report."""
