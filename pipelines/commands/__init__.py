"""The application's commands, found by `photoproof` through the entry-point group photoproof.commands."""
