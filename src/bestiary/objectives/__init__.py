"""Objectives: games, penalties and bounds, as pure functions of tensors."""

from bestiary.objectives import bounds, games, penalties

__all__ = ["bounds", "games", "penalties"]
