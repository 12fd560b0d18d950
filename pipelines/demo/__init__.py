"""Try everything: the demo and its drawn sample catalogue."""
