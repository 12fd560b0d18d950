"""The product database, and what fills it."""
