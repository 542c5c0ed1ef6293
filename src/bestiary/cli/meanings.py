"""What a docstring says about each argument."""

import inspect
import re
from collections.abc import Callable
from typing import Any

_SECTION = re.compile(r"\nArguments:\n((?: {4}.*\n?|\n)+)")
_ARGUMENT = re.compile(r"^ {4}(\w[^:\n]*): (.*(?:\n {5,}.*)*)", re.MULTILINE)


def meanings(target: Callable[..., Any]) -> dict[str, str]:
    """The texts of the section "Arguments" of a class or function, by name."""
    found: dict[str, str] = {}
    section = _SECTION.search(inspect.getdoc(target) or "")
    for names, text in _ARGUMENT.findall(section[1] if section else ""):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()).rstrip("."))
    return found
