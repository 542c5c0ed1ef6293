"""Studies: models under one equal budget, and the verdict."""

from bestiary.study.compare import compare

__all__ = ["compare"]
