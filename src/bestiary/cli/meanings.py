"""What a docstring says about each argument."""

import inspect
import re
from collections.abc import Callable
from typing import Any

_SECTION = re.compile(r"\nArguments:\n((?: {4}.*\n?|\n)+)")
_ARGUMENT = re.compile(r"^ {4}(\w[^:\n]*): (.*(?:\n {5,}.*)*)", re.MULTILINE)


def meanings(target: Callable[..., Any]) -> dict[str, str]:
    """The texts of the section "Arguments" of a function, or of a class and those above it, by name."""
    found: dict[str, str] = {}
    for owner in reversed(target.__mro__) if inspect.isclass(target) else [target]:
        section = _SECTION.search(inspect.cleandoc(owner.__doc__ or ""))
        for names, text in _ARGUMENT.findall(section[1] if section else ""):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()).rstrip("."))
    return found
