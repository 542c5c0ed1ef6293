"""The beta-VAE: independent, interpretable factors for the price of worse reconstructions."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from torch import Tensor

from bestiary.config import Ge, Gt, Le, Search
from bestiary.data.specs import ImageSpec, Spec
from bestiary.errors import OptionError
from bestiary.models.base import Clock
from bestiary.models.latent.vae import VAE
from bestiary.models.optimizers import VAEOptimizerName
from bestiary.networks.coders import CoderName, decoder
from bestiary.networks.mlp import ActivationName


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
        the capacity. The defaults are the first paper's on dSprites, whose score of 99.2 is for β = 4: an
        encoder of two layers of 1,200 rectifiers, a decoder of three of 1,200 tanh units, 10 latent
        dimensions, Adagrad of 1e-2. Later work has convolutional networks and Adam, as `laptop` has.

    Departures: minibatches of 64, which later work has; the paper does not say. p(x|z) of grey images is a
    discretised logistic (see `VAE`).

    Arguments:
        spec: images or points.
        hidden, activation: the encoder's layers, of network="mlp".
        decoder_hidden, decoder_activation: the decoder's, from the code to x.
        beta: weight of the divergence, β; without a capacity.
        capacity: C at the end of its rise, nats; none for the first form.
        gamma: γ, of the second form.
        rise: share of the budget over which C rises in a line from 0.

    Raises:
        OptionError: a warm-up of the divergence's weight beside a capacity, whose rise does the same.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        beta: Annotated[float, Ge(0), Search(1, 16, log=True)] = 4.0,
        capacity: Annotated[float, Ge(0), Search(5, 100)] | None = None,
        gamma: Annotated[float, Gt(0)] = 1000.0,
        rise: Annotated[float, Gt(0), Le(1)] = 0.5,
        network: CoderName = "mlp",
        channels: Annotated[int, Ge(1)] = 32,
        hidden: Sequence[Annotated[int, Ge(1)]] = (1200, 1200),
        activation: ActivationName = "relu",
        decoder_hidden: Sequence[Annotated[int, Ge(1)]] = (1200, 1200, 1200),
        decoder_activation: ActivationName = "tanh",
        latent_dim: Annotated[int, Ge(1)] = 10,
        optimizer: VAEOptimizerName = "adagrad",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-2,
        batch_size: Annotated[int, Ge(1)] = 64,
        **settings: Any,
    ) -> None:
        super().__init__(
            spec,
            network=network,
            channels=channels,
            hidden=hidden,
            activation=activation,
            latent_dim=latent_dim,
            optimizer=optimizer,
            learning_rate=learning_rate,
            batch_size=batch_size,
            **settings,
        )
        if capacity is not None and self._warmup:
            raise OptionError(
                f"warmup: found {self._warmup:g} beside a capacity, which rises itself, wanted 0"
            )
        if network == "mlp":
            self.decoder = decoder(
                network,
                spec,
                self.observation.outputs,
                latent_dim=latent_dim,
                hidden=decoder_hidden[::-1],
                channels=channels,
                activation=decoder_activation,
                condition_dim=self.context_dim(spec),
            )
        self._beta, self._capacity, self._gamma, self._rise = beta, capacity, gamma, rise

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """A few hundred weights a pixel."""
        network: CoderName = "infogan" if isinstance(spec, ImageSpec) else "mlp"
        settings: dict[str, Any] = {"hidden": (16,), "decoder_hidden": (16,), "channels": 4, "latent_dim": 2}
        return cls(spec, network=network, batch_size=8, optimizer="adam", learning_rate=1e-3, **settings)

    def penalty(self, kl: Tensor, clock: Clock) -> Tensor:
        """β·KL, or γ·|KL − C|; Higgins et al. 2017, eq. 4, and Burgess et al. 2018, eq. 8."""
        if self._capacity is None:
            return self.warmth(clock) * self._beta * kl
        return self._gamma * (kl - self._capacity * min(1.0, clock.progress / self._rise)).abs()
