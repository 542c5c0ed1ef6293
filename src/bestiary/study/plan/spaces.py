"""Where the draws of a setting come from: a range or a list of choices, and how a constructor says so."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from bestiary.config import options, plain, resolve
from bestiary.errors import OptionError, unknown_name


@dataclass(frozen=True)
class Range:
    """Uniform on [low, high], or log-uniform; `whole` for whole numbers, both ends included."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def at(self, u: float) -> float | int:
        """The value at the share u ∈ [0, 1) of the range, by probability."""
        low, high = self.low, self.high + self.whole
        value = low * (high / low) ** u if self.log else low + u * (high - low)
        return min(math.floor(value), int(self.high)) if self.whole else min(max(value, low), high)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def to_plain(self) -> dict[str, Any]:
        """As a study file has it."""
        return {"low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Choices:
    """One of a few values, each as likely as the others."""

    values: tuple[Any, ...]

    def at(self, u: float) -> Any:
        """The value at the share u ∈ [0, 1)."""
        return self.values[int(u * len(self.values))]

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def to_plain(self) -> list[Any]:
        """As a study file has it."""
        return list(plain(self.values))


Dimension = Range | Choices
Space = Mapping[str, Dimension]


def arm_space(
    target: Callable[..., Any],
    shared: Mapping[str, Any] | None,
    own: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    owner: str,
) -> dict[str, Dimension]:
    """The space of one arm, in the order of the constructor's options.

    Arguments:
        target: the model's class.
        shared: the study's space, of which the options count that this model has; None for the constructor's
            `Search` annotations, without those of options that the default setting has switched off by None.
        own: the arm's, which goes over it; a value of None takes an option out.
        settings: the arm's default setting.
        owner: the arm, for messages.

    Raises:
        OptionError: an option that does not exist, or a range or choice that is not valid for it.
    """
    schema = options(target)
    if shared is None:
        found: dict[str, Any] = {
            name: {"low": o.search.low, "high": o.search.high, "log": o.search.log}
            for name, o in schema.items()
            if o.search and settings[name] is not None
        }
    else:
        found = {name: value for name, value in shared.items() if name in schema}
    for name in own or {}:
        if name not in schema:
            raise unknown_name(f"option in the space of {owner}", name, schema)
    found |= own or {}
    return {
        name: _dimension(target, name, found[name], settings, f"{owner}: space of {name}")
        for name in schema
        if found.get(name) is not None
    }


def _dimension(
    target: Callable[..., Any], name: str, content: Any, settings: Mapping[str, Any], owner: str
) -> Dimension:
    def valid(value: Any) -> Any:
        try:
            return resolve(target, {**settings, name: value}, owner=owner)[name]
        except OptionError as error:
            raise OptionError(f"{owner}: {error}") from None

    if isinstance(content, list | tuple) and content:
        return Choices(tuple(valid(value) for value in content))
    if not isinstance(content, Mapping):
        raise OptionError(f"{owner}: found {content!r}, wanted {{low, high, log}} or a list of choices")
    ends = resolve(_range_fields, content, owner=owner)
    low, high, log = ends["low"], ends["high"], ends["log"]
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (log and low <= 0):
        positive = "0 < " if log else ""
        raise OptionError(f"{owner}: found low {low:g} and high {high:g}, wanted {positive}low < high")
    whole = _is_whole(options(target)[name].annotation)
    if whole:
        return Range(valid(_as_whole(low, owner)), valid(_as_whole(high, owner)), log, whole)

    def inside(end: float, other: float) -> float:
        for value in (end, math.nextafter(end, other)):  # an end may be open, as 1 of [0, 1)
            with suppress(OptionError):
                return float(valid(value))
        return float(valid(end))  # raises with the number that was written

    return Range(inside(low, high), inside(high, low), log)


def _range_fields(*, low: float, high: float, log: bool = False) -> None: ...


def _as_whole(value: float, owner: str) -> int:
    if value != int(value):
        raise OptionError(f"{owner}: found {value:g}, wanted a whole number")
    return int(value)


def _is_whole(annotation: Any) -> bool:
    return annotation is int or (get_origin(annotation) is Annotated and get_args(annotation)[0] is int)
