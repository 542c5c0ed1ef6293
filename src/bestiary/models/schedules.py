"""Factors on a learning rate, functions of the clock (see `Player.schedule`)."""

from itertools import accumulate

from bestiary.models.base import Clock

_BURDA_STAGES = 8


def linear_tail(clock: Clock, share: float) -> float:
    """1, then a straight line to 0 over the last `share` of the budget; 0 for none."""
    return 1.0 if share == 0 else min(1.0, (1 - clock.progress) / share)


def exponential_decay(clock: Clock, factor: float, player: str = "model") -> float:
    """`factor` to the power of the number of updates that a player has made."""
    return float(factor ** clock.updates.get(player, 0))


def burda_stages(clock: Clock) -> float:
    """10^{−i/7} in stage i = 0 … 7, which lasts 3^i epochs: Burda et al. 2016 (arXiv 1509.00519), §5.

    After the 3,280 epochs of all stages it stays where it is.
    """
    ends = list(accumulate(3**i for i in range(_BURDA_STAGES)))
    stage = sum(clock.epochs >= end for end in ends)
    return float(10 ** (-min(stage, _BURDA_STAGES - 1) / 7))
