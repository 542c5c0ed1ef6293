"""Runs: one trained model in one folder, with everything needed to use, resume or repeat it."""

from bestiary.runs.evaluation import evaluate
from bestiary.runs.folder import Run, RunConfig, load, open_run
from bestiary.runs.training import train

__all__ = ["Run", "RunConfig", "evaluate", "load", "open_run", "train"]
