"""The variational auto-encoder."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn
from torch.optim import Adagrad, Adam

from bestiary.config import Ge, Gt, Search
from bestiary.data.specs import ImageSpec, Spec
from bestiary.distributions.observation import ObservationName, Treatment, at_least_float32, observation
from bestiary.models.base import (
    Clock,
    Encoder,
    LatentLikelihood,
    LikelihoodBound,
    Model,
    Move,
    Player,
    Sampler,
    Step,
)
from bestiary.models.inputs import image_spec
from bestiary.networks import infogan
from bestiary.networks.mlp import mlp
from bestiary.objectives.bounds import gaussian_kl, gaussian_log_prob, importance_weighted_bound


class VAE(Model, Sampler, LikelihoodBound, LatentLikelihood, Encoder):
    r"""z ~ N(0, I), x ~ p(x|z), trained through an encoder q(z|x) = N(μ(x), σ(x)²) by the bound

    .. math::
        \log p(x) \ge E_{q(z|x)} \log p(x|z) - KL(q(z|x) \| p(z)).

    Shapes and units: x (B, \*spec.shape), images in [0, 1]; z (B, Z); bounds in nats, shape (B,).

    References:
        *Auto-Encoding Variational Bayes* (Kingma & Welling, 2014), arXiv 1312.6114: the bound, one hidden
        layer of 500 tanh units, minibatches of 100, one sample of z an example, Adagrad.
        *PixelCNN++* (Salimans et al., 2017), arXiv 1701.05517: the discretised logistic.

    Departures: the likelihood of grey images is a discretised logistic, since a Bernoulli on grey levels
    is the likelihood of nothing; weights start Glorot-uniform instead of N(0, 0.01²), with which deeper
    networks start dead; the weak prior on the weights is left out.

    Arguments:
        spec: images or points.
        network: "mlp", or "infogan" for the convolutional networks that the GANs use.
        hidden: units of the mlp's layers, mirrored in the decoder.
        channels: width of the infogan networks.
        latent_dim: Z.
        likelihood: p(x|z); "auto" is bernoulli for binary images, discretised_logistic for grey and
            colour images, gaussian for points.
        draw_noise: whether `sample` draws from p(x|z); otherwise it shows the mean of it, as papers do.
        optimizer, learning_rate: Adagrad in the paper.
        batch_size: examples per update.

    Example:
        >>> model = VAE(ImageSpec(1, 28, 28), latent_dim=2)
        >>> model.elbo(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        spec: Spec,
        *,
        network: Literal["mlp", "infogan"] = "mlp",
        hidden: Sequence[Annotated[int, Ge(1)]] = (500,),
        channels: Annotated[int, Ge(1)] = 64,
        latent_dim: Annotated[int, Ge(1)] = 20,
        likelihood: Literal["auto"] | ObservationName = "auto",
        draw_noise: bool = False,
        optimizer: Literal["adagrad", "adam"] = "adagrad",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 0.02,
        batch_size: Annotated[int, Ge(1)] = 100,
    ) -> None:
        super().__init__(spec, batch_size=batch_size)
        self.latent_dim = latent_dim
        self.draw_noise = draw_noise
        self.observation = observation(likelihood, spec)
        self.encoder: nn.Module
        self.decoder: nn.Module
        outputs = self.observation.outputs * spec.shape[0]
        if network == "infogan":
            image = image_spec(spec, "network=infogan")
            self.encoder = infogan.discriminator(
                image, channels=channels, batch_norm=False, outputs=2 * latent_dim
            )
            self.decoder = infogan.generator(
                image,
                latent_dim=latent_dim,
                channels=channels,
                batch_norm=False,
                outputs=outputs,
                activation=nn.ReLU,
            )
        else:
            self.encoder = mlp(spec.dimensions, hidden, 2 * latent_dim, activation=nn.Tanh)
            self.decoder = mlp(latent_dim, hidden[::-1], (outputs, *spec.shape[1:]), activation=nn.Tanh)
        kind = Adagrad if optimizer == "adagrad" else Adam
        self._optimizer = partial(kind, lr=learning_rate, fused=True)

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """A few hundred weights a pixel."""
        network: Literal["mlp", "infogan"] = "infogan" if isinstance(spec, ImageSpec) else "mlp"
        return cls(spec, network=network, hidden=(16,), channels=4, latent_dim=2, batch_size=8)

    @property
    def treatment(self) -> Treatment:
        """That of p(x|z)."""
        return self.observation.treatment

    def players(self) -> Mapping[str, Player]:
        """One player: encoder and decoder climb the same bound."""
        return {"model": Player(list(self.parameters()), self._optimizer)}

    def moves(self, clock: Clock) -> Sequence[Move]:
        """Kingma & Welling 2014, Algorithm 1."""
        return [Move("model", self.cost)]

    def cost(self, step: Step) -> dict[str, Tensor]:
        """The negative bound (eq. 10 with one sample and the KL in closed form)."""
        mu, log_sigma = self.posterior(step.x)
        z = mu + log_sigma.exp() * step.normal(self.latent_dim)
        reconstruction = self.log_likelihood(z, step.x).mean()
        kl = gaussian_kl(mu, log_sigma).mean()
        return {"loss": kl - reconstruction, "reconstruction": reconstruction, "kl": kl}

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ of q(z|x), each (B, Z)."""
        mu, log_sigma = at_least_float32(self.encoder(x)).chunk(2, dim=1)
        return mu, log_sigma.clamp(-10, 5)

    def log_likelihood(self, z: Tensor, x: Tensor) -> Tensor:
        """See `LatentLikelihood.log_likelihood`."""
        return self.observation.log_prob(self.decoder(z), x)

    def elbo(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `LikelihoodBound.elbo`; one sample of z, the KL in closed form."""
        with self.evaluation():
            mu, log_sigma = self.posterior(x)
            z = mu + log_sigma.exp() * self.normal(*mu.shape, generator=generator)
            return self.log_likelihood(z, x) - gaussian_kl(mu, log_sigma)

    def log_prob_bound(
        self,
        x: Tensor,
        *,
        particles: int,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `LikelihoodBound.log_prob_bound`."""
        with self.evaluation():
            mu, log_sigma = self.posterior(x)
            log_weights = []
            for _ in range(particles):
                z = mu + log_sigma.exp() * self.normal(*mu.shape, generator=generator)
                log_joint = gaussian_log_prob(z) + self.log_likelihood(z, x)
                log_weights.append(log_joint - gaussian_log_prob(z, mu, log_sigma))
            return importance_weighted_bound(torch.stack(log_weights))

    def sample(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `Sampler.sample`."""
        z = self.normal(n, self.latent_dim, generator=generator)
        if not self.draw_noise:
            return self.decode(z)
        with self.evaluation():
            return torch.cat([self.observation.draw(self.decoder(part), generator) for part in z.split(512)])

    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.encode`."""
        with self.evaluation():
            return self.posterior(x)[0]

    def decode(self, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.decode`."""
        with self.evaluation():
            return torch.cat([self.observation.mean(self.decoder(part)) for part in z.split(512)])
