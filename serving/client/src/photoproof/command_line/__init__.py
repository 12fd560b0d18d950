"""The command `photoproof`."""
