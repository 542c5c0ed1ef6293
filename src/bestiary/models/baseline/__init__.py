"""Baselines: what every other model must beat."""
