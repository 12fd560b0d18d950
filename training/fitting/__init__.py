"""A step of training, and what feeds it."""
