"""`python -m serving.model_server`: sets TensorFlow's chatter down before anything imports it, then starts."""

import os
import sys
from importlib import metadata

from serving.model_server.flags import parse


def main() -> int:
    """Runs the server until SIGTERM or SIGINT; 0 after one of those, 255 where it cannot start, 2 for a bad flag."""
    options = parse(sys.argv[1:])
    if options.version:
        print(f"TensorFlow ModelServer: {metadata.version('photoproof-pipeline')}-local")
        print(f"TensorFlow Library: {metadata.version('tensorflow')}")
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TensorFlow then does not import Keras, half of its start and unused here
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    from serving.model_server.server import serve

    serve(options)


if __name__ == "__main__":
    sys.exit(main())
