"""Promises about pictures."""
