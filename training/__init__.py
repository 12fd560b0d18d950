"""From a version of data/ to an evaluated SavedModel: one module a stage, and what they are made of."""
