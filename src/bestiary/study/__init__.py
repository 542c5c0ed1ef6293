"""Studies: models under one equal budget, and the verdict."""

from bestiary.study.comparison import compare

__all__ = ["compare"]
