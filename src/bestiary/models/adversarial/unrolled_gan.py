"""The generator looks ahead: its cost is taken after the discriminator's next k steps."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.optim import Optimizer

from bestiary.config import Ge
from bestiary.data.specs import Spec
from bestiary.distributions.observation import at_least_float32
from bestiary.errors import OptionError
from bestiary.models.adversarial.gan import GAN
from bestiary.models.base import Clock, Move, Step

# What the inner steps are made of: J_D of the game alone, by Adam.
_UNROLLABLE = {
    "optimizer": "adam", "penalty": "none", "clip": None, "label_smoothing": 0.0, "feature_matching": False,
    "departures": "none",
}  # fmt: skip


class UnrolledGAN(GAN):
    r"""A GAN whose generator minimises the cost that it will have after k more steps of the discriminator.

    .. math::
        \theta_D^{j+1} = \theta_D^j - \eta_j \, \mathrm{Adam}(\nabla J_D(\theta_G, \theta_D^j)), \qquad
        J_G = f(\theta_G, \theta_D^k(\theta_G))

    In a game of two opposite costs, as minimax, f = −J_D as a whole: after k steps the discriminator's view
    of the data depends on the generator too. The gradient goes through the k steps, second derivatives and
    Adam's moments among it; the discriminator itself makes one ordinary step a round.

    References:
        *Unrolled Generative Adversarial Networks* (Metz et al., 2017), arXiv 1611.02163: eqs. 7–10, and
        appendix A for the toy.

    Departures: the inner steps see the last real batch and one batch of codes, as the authors' code does.
    Networks are those of Lucic et al. 2018, as for every game here.

    Arguments:
        spec: of images or points, with conditions or without.
        unrolling_steps: k; 0 is the game without looking ahead.
        first_order: take the discriminator after its steps for granted, as several reproductions do: not the
            paper's gradient, and here to be told apart from it.
        settings: of `GAN`, whose game is the minimax one here. Penalties, clipping, feature matching,
            smoothed labels and optimisers other than Adam have no unrolled form here.

    Example:
        >>> from bestiary.data.specs import PointSpec
        >>> UnrolledGAN(PointSpec(2), unrolling_steps=3).sample(4).shape
        torch.Size([4, 2])
    """

    bfloat16_safe = False  # second derivatives through several steps

    def __init__(
        self,
        spec: Spec,
        *,
        unrolling_steps: Annotated[int, Ge(0)] = 10,
        first_order: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(spec, **{"game": "minimax", **settings})
        for name, wanted in _UNROLLABLE.items():
            if self.settings[name] != wanted:
                raise OptionError(
                    f"{name}: found {self.settings[name]!r}, which cannot be unrolled here, wanted {wanted!r}"
                )
        self.unrolling_steps, self.first_order = unrolling_steps, first_order
        # the steps ahead are taken by the mean of a whole batch
        self.batch_coupled = self.batch_coupled or unrolling_steps > 0

    def moves(self, clock: Clock) -> Sequence[Move]:
        """The discriminator's step, and the generator's on the same batch."""
        discriminator, _ = super().moves(clock)
        return [discriminator, Move("generator", self.generator_cost, batch="same")]

    def generator_cost(self, step: Step) -> dict[str, Tensor]:
        """f(θ_G, θ_D^k)."""
        condition = self.vectors(step.condition, step.size)
        fake = self.generate(self.codes(step), condition)
        adam = _DifferentiableAdam(step.optimizers["discriminator"])
        names, parameters = zip(*self.discriminator.named_parameters(), strict=True)
        weights = [p.detach().requires_grad_() for p in parameters]
        # batch norm's averages are the discriminator's own affair, in its own moves
        buffers = {name: buffer.clone() for name, buffer in self.discriminator.named_buffers()}

        def judge(x: Tensor) -> Tensor:
            state = {**buffers, **dict(zip(names, weights, strict=True))}
            return at_least_float32(functional_call(self.discriminator, state, (x, condition)))

        for _ in range(self.unrolling_steps):
            cost = self.game.discriminator_cost(real=judge(step.x), fake=judge(fake))
            gradients = torch.autograd.grad(cost, weights, create_graph=not self.first_order)
            weights = adam.step(parameters, weights, gradients)
            if self.first_order:
                weights = [w.detach().requires_grad_() for w in weights]
        if self.game.zero_sum:  # after the steps the outputs of real examples depend on the generator too
            return {"loss": -self.game.discriminator_cost(real=judge(step.x), fake=judge(fake))}
        return {"loss": self.game.generator_cost(fake=judge(fake))}


class _DifferentiableAdam:
    """Adam as a function of gradients, from the moments that an optimiser has by now and leaves alone."""

    def __init__(self, optimizer: Optimizer) -> None:
        (group,) = optimizer.param_groups
        self._rate, (self._beta1, self._beta2), self._epsilon = group["lr"], group["betas"], group["eps"]
        self._state = {p: dict(state) for p, state in optimizer.state.items()}

    def step(
        self, parameters: Sequence[Tensor], weights: Sequence[Tensor], gradients: Sequence[Tensor]
    ) -> list[Tensor]:
        """The weights after a step; `parameters` say whose moments are meant."""
        return [
            self._moved(self._state.setdefault(p, {}), w, g)
            for p, w, g in zip(parameters, weights, gradients, strict=True)
        ]

    def _moved(self, state: dict[str, Any], weight: Tensor, gradient: Tensor) -> Tensor:
        n = int(state.get("step", 0)) + 1
        mean = state.get("exp_avg", torch.zeros_like(gradient))
        square = state.get("exp_avg_sq", torch.zeros_like(gradient))
        mean = self._beta1 * mean + (1 - self._beta1) * gradient
        square = self._beta2 * square + (1 - self._beta2) * gradient.square()
        state.update(step=n, exp_avg=mean, exp_avg_sq=square)
        # the root has no slope at zero, where no gradient has been seen yet: there the step is zero too
        unseen = square == 0
        root = torch.where(unseen, 0.0, torch.where(unseen, 1.0, square).sqrt())
        rate = self._rate / (1 - self._beta1**n)
        moved: Tensor = weight - rate * mean / (root / (1 - self._beta2**n) ** 0.5 + self._epsilon)
        return moved
