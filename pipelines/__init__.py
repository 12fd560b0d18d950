"""When things happen, and everything with an effect outside the working folder."""
