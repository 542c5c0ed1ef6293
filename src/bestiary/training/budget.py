"""Budgets: when training stops.

`"2 epochs"`, `"500k examples"`, `"10 minutes"`, `"15625 discriminator updates"`, `"300 rounds"`,
`"2e15 flops"`. `"20000 total updates"` counts those of all players. Training stops after the round in which
the budget is spent.
"""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from bestiary.errors import OptionError, nearest
from bestiary.models.base import Clock

TOTAL = "total"  # in place of a player's name
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_UNITS = ("epochs", "examples", "updates", "rounds", "flops", *(name + "s" for name in _SECONDS))
_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6}
_PATTERN = re.compile(
    r"\s*([-+]?[\d_.]+(?:e[-+]?\d+)?)\s*([km]?)(?:\s+|(?<=\d)(?=[a-z]))(.+?)\s*", re.IGNORECASE
)
_EXAMPLES = "wanted for example '2 epochs', '500k examples', '10 minutes', '300 rounds', '2e15 flops'"


@dataclass(frozen=True)
class Budget:
    """An amount of one unit: epochs, examples, seconds, rounds, flops, or updates.

    Attributes:
        amount: of the unit.
        unit: one of epochs, examples, seconds, rounds, flops, updates.
        player: whose updates; "total" for the sum over players, None for whoever moves most often.
    """

    amount: float
    unit: str
    player: str | None = None

    def spent(self, clock: Clock) -> float:
        """Share of the budget that the clock shows as spent; 1 or more when training must stop."""
        return self.reading(clock) / self.amount

    def reading(self, clock: Clock) -> float:
        """What the clock shows in the budget's unit."""
        if self.unit == "updates":
            if self.player == TOTAL:
                return sum(clock.updates.values())
            if self.player is not None:
                return clock.updates.get(self.player, 0)
            return max(clock.updates.values(), default=0)
        return float(getattr(clock, self.unit))

    def check(self, *, endless: bool, players: Collection[str]) -> None:
        """Refuse a budget that this data or model cannot spend.

        Raises:
            OptionError: epochs of an endless source, updates of a player that the model does not have.
        """
        if endless and self.unit == "epochs":
            raise OptionError(
                f"budget: found '{self}', but the data are made on demand and have no epochs,"
                " wanted examples, rounds, updates or a time"
            )
        if self.player not in (None, TOTAL, *players):
            close = nearest(str(self.player), players)
            raise OptionError(
                f"budget: found updates of {self.player!r}, wanted a player of the model: "
                + (f"did you mean {close!r}?" if close else ", ".join(players))
            )

    def __str__(self) -> str:
        unit = f"{self.player} updates" if self.player else self.unit
        return f"{self.amount:.15g} {unit}"


def parse_budget(text: str | Budget) -> Budget:
    """Read a budget as people write it.

    Raises:
        OptionError: text that is no budget, or an amount that is not positive and finite.
    """
    if isinstance(text, Budget):
        return text
    match = _PATTERN.fullmatch(str(text))
    try:
        amount = float(match[1].replace("_", "")) * _FACTORS[match[2].lower()] if match else math.nan
    except ValueError:
        match = None
    if match is None:
        raise OptionError(f"budget: cannot read {text!r}, {_EXAMPLES}")
    if not (amount > 0 and math.isfinite(amount)):
        raise OptionError(f"budget: found {text!r}, wanted an amount above zero, as in '2 epochs'")
    words = match[3].lower().split()
    unit = words[-1].rstrip("s")
    if unit == "update" and len(words) <= 2:
        return Budget(amount, "updates", words[0] if len(words) == 2 else None)
    if len(words) == 1 and unit in _SECONDS:
        return Budget(amount * _SECONDS[unit], "seconds")
    if len(words) == 1 and unit + "s" in _UNITS:
        return Budget(amount, unit + "s")
    close = nearest(words[-1], _UNITS)
    raise OptionError(
        f"budget: unknown unit in {text!r}, "
        + (f"did you mean {close!r}?" if close else f"wanted one of {', '.join(_UNITS)}")
    )
