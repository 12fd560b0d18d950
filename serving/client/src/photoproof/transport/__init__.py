"""Calls to TensorFlow Serving, over gRPC and REST."""
