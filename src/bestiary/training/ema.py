"""Exponential moving averages of parameters."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from bestiary.models.base import Model, Player


class Averages:
    """Averages of the parameters of every player that asks for one.

    After a step that saw `examples` examples, average ← average + (1 − d)(parameter − average) with
    d = 2^(−examples / half-life), so that the half-life does not depend on the batch size.
    """

    def __init__(self, model: Model, players: Mapping[str, Player]) -> None:
        self._names: dict[str, list[str]] = {}
        self._values: dict[str, Tensor] = {}
        self._parameters = dict(model.named_parameters())
        self._half_life = {name: player.ema for name, player in players.items() if player.ema is not None}
        for name in self._half_life:
            owned = {id(p) for p in players[name].parameters}
            self._names[name] = [key for key, p in self._parameters.items() if id(p) in owned]
            for key in self._names[name]:
                self._values.setdefault(key, self._parameters[key].detach().clone())

    def update(self, player: str, examples: int) -> None:
        """Follow the parameters of `player` after a step."""
        half_life = self._half_life.get(player)
        if half_life is None:
            return
        names = self._names[player]
        weight = 1 - 0.5 ** (examples / half_life)
        torch._foreach_lerp_(
            [self._values[n] for n in names], [self._parameters[n].detach() for n in names], weight
        )

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages where the parameters were, which come back afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, value in self._values.items():
            parameter = self._parameters[name]
            parameter.data, self._values[name] = value, parameter.data

    def state(self) -> dict[str, Tensor]:
        """Averaged parameters by name; empty where no player asks for any."""
        return self._values

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from saved averages."""
        for name, value in self._values.items():
            value.copy_(state[name])
