"""The networks, and the one decode."""
