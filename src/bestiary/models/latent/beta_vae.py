"""The beta-VAE: independent, interpretable factors for the price of worse reconstructions."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from torch import Tensor

from bestiary.config import Ge, Gt, Le, Search
from bestiary.data.specs import Spec
from bestiary.models.base import Clock
from bestiary.models.latent.vae import VAE
from bestiary.networks.coders import CoderName


class BetaVAE(VAE):
    r"""A VAE that pays more for its codes,

    .. math::
        E_{q(z|x)} \log p(x|z) - \beta \, KL(q(z|x) \| p(z)),

    or, with a `capacity`, is held to a number of nats that grows while it trains,

    .. math::
        E_{q(z|x)} \log p(x|z) - \gamma \, |KL(q(z|x) \| p(z)) - C|.

    The ELBO that it reports is the unweighted one.

    References:
        *beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework* (Higgins et al.,
        2017), ICLR; *Understanding disentangling in beta-VAE* (Burgess et al., 2018), arXiv 1804.03599, for
        the capacity. Default are β = 4, as for the published score of 99.2 on dSprites, with 10 latent
        dimensions and Adam.

    Departures: the paper trains on dSprites with an mlp of 1200-1200, tanh decoder of 1200-1200-1200 and
    Adagrad of 1e-2; the convolutional networks and Adam of later work are the default here.

    Arguments:
        spec: images or points.
        beta: weight of the divergence, β; without a capacity.
        capacity: C at the end of its rise, nats; none for the first form.
        gamma: γ, of the second form.
        rise: share of the budget over which C rises in a line from 0.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        beta: Annotated[float, Ge(0), Search(1, 16, log=True)] = 4.0,
        capacity: Annotated[float, Ge(0), Search(5, 100)] | None = None,
        gamma: Annotated[float, Gt(0)] = 1000.0,
        rise: Annotated[float, Gt(0), Le(1)] = 0.5,
        network: CoderName = "residual",
        channels: Annotated[int, Ge(1)] = 32,
        hidden: Sequence[Annotated[int, Ge(1)]] = (1200, 1200),
        latent_dim: Annotated[int, Ge(1)] = 10,
        optimizer: Literal["adagrad", "adam"] = "adam",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-4,
        batch_size: Annotated[int, Ge(1)] = 64,
        **settings: Any,
    ) -> None:
        super().__init__(
            spec,
            network=network,
            channels=channels,
            hidden=hidden,
            latent_dim=latent_dim,
            optimizer=optimizer,
            learning_rate=learning_rate,
            batch_size=batch_size,
            **settings,
        )
        self._beta, self._capacity, self._gamma, self._rise = beta, capacity, gamma, rise

    def penalty(self, kl: Tensor, clock: Clock) -> Tensor:
        """β·KL, or γ·|KL − C|; Higgins et al. 2017, eq. 4, and Burgess et al. 2018, eq. 8."""
        if self._capacity is None:
            return self.warmth(clock) * self._beta * kl
        return self._gamma * (kl - self._capacity * min(1.0, clock.progress / self._rise)).abs()
