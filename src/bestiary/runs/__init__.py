"""Runs: one trained model in one folder, with everything needed to use, resume or repeat it."""

from bestiary.runs.folder import Run, RunConfig, load
from bestiary.runs.training import train

__all__ = ["Run", "RunConfig", "load", "train"]
