"""The manifest, its splits and draws."""
