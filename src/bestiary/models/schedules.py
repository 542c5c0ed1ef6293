"""Factors on a learning rate, functions of the clock (see `Player.schedule`)."""

from bestiary.models.base import Clock


def linear_tail(clock: Clock, share: float) -> float:
    """1, then a straight line to 0 over the last `share` of the budget; 0 for none."""
    return 1.0 if share == 0 else min(1.0, (1 - clock.progress) / share)


def exponential_decay(clock: Clock, factor: float, player: str = "model") -> float:
    """`factor` to the power of the number of updates that a player has made."""
    return float(factor ** clock.updates.get(player, 0))
