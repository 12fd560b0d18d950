"""The application's commands, found by `photoproof` through the entry-point group photoproof.commands."""

import os

from training.stage.quiet import is_verbose

if not is_verbose():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it when it is imported, wherever that is
