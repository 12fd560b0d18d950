"""A local stand-in for tensorflow_model_server, for development and tests."""
