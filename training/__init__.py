"""From a version of data/ to an evaluated SavedModel: one module a stage, and what they are made of."""

import sys

# Python sets this argv[0] while it locates the module of `python -m training.STAGE`: the last moment
# before that module's own imports load TensorFlow. run_stage lets stderr go on. hush() minds a -v.
if sys.argv[0] == "-m":
    from training.stage.quiet import hush

    hush()
