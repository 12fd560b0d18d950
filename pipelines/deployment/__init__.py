"""Make model servers equal to the registry's aliases."""
