"""The ground: places, settings, params, locks, processes and ports."""
