"""Objectives: games, penalties and bounds, as pure functions of tensors."""
