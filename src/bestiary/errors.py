"""What can go wrong through a user's mistake: one line each, and exit code 2 on the command line.

Every message names the argument, the value found, the value wanted and the remedy. Anything that is
not a `BestiaryError` is a fault of the package.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class BestiaryError(Exception):
    """A mistake that the person at the keyboard can put right; its text is one line."""


class OptionError(BestiaryError, ValueError):
    """A setting, name or budget that does not exist or has an invalid value."""


class DataError(BestiaryError):
    """Data that is missing, damaged, or not what the model was made for."""


class RunError(BestiaryError):
    """A run folder that is missing, damaged, locked, in the way, or of another configuration."""


class StoppedError(BestiaryError):
    """Work that was interrupted on purpose: what is done is kept. Not a mistake: exit code 1."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether something did not fit into memory; torch says so in several ways, on a CPU in words alone."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that looks most like `name`, or None where none does."""
    by_lower = {candidate.lower(): candidate for candidate in valid}
    found = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def unknown_name(kind: str, name: str, valid: Iterable[str], remedy: str = "") -> OptionError:
    """The error for a name that is not on a list: says the nearest valid one, or all of them."""
    valid = sorted(valid)
    close = nearest(name, valid)
    wanted = f"did you mean {close!r}?" if close else f"wanted one of: {', '.join(valid) or '(none)'}"
    return OptionError(f"unknown {kind} {name!r}: {wanted}" + (f" {remedy}" if remedy else ""))
