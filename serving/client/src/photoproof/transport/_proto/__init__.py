"""Generated from wire.proto, whose head says how."""
