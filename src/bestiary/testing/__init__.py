"""Checks that ship with the package, so that a user's own model can be held to them."""

from bestiary.testing.check_model import check_model, random_data

__all__ = ["check_model", "random_data"]
