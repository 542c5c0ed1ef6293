"""The spherical VAE: codes on a sphere, under a uniform prior."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn import functional as F
from torch.optim import Adam

from bestiary.config import Ge, Gt, Search
from bestiary.data.specs import ImageSpec, Spec
from bestiary.distributions import HypersphericalUniform, VonMisesFisher
from bestiary.distributions.gaussian import gaussian_log_prob
from bestiary.distributions.observation import ObservationName, at_least_float32, observation
from bestiary.models.base import Player
from bestiary.models.inputs import check_values, condition_dim
from bestiary.models.latent.base import DecoderModel, Epochs, Terms
from bestiary.models.noise import Noise
from bestiary.networks.coders import CoderName, decoder, encoder
from bestiary.networks.mlp import ActivationName


class SphericalVAE(DecoderModel):
    r"""z uniform on the sphere S^d, x ~ p(x|z), trained through q(z|x) = vMF(μ(x), κ(x)) by the bound

    .. math::
        \log p(x) \ge E_{q(z|x)} \log p(x|z) - KL(q(z|x) \| \mathrm{uniform}),

    whose KL depends on κ alone, in closed form: no example is drawn towards a centre.

    Codes are directions: the decoder sees z/‖z‖, so that it is the same model to draw z ~ N(0, I) in R^{d+1},
    as `draw_codes` and `log_prior` do, and any point between two codes can be decoded. `encode` gives μ(x).
    Where the data have conditions, encoder and decoder see them, and the prior does not.

    Shapes and units: x (B, \*spec.shape), images in [0, 1]; z (B, d + 1); bounds in nats, shape (B,).

    References:
        *Hyperspherical Variational Auto-Encoders* (Davidson et al., 2018), arXiv 1804.00891: ReLU layers of
        256 and 128 units, d from 2 to 40, Adam of 1e-3, minibatches of 64, a linear warm-up of 100 epochs.
        As in the authors' code, κ = 1 + softplus(·), which keeps posteriors off the uniform law.

    Departures: the gradient by κ is exact (see `VonMisesFisher`); training ends with its budget, not when the
    validation score has not risen for 50 epochs; the likelihood of grey images is a discretised logistic,
    since a Bernoulli on grey levels is the likelihood of nothing.

    Arguments:
        spec: images or points.
        network: "mlp"; "infogan", the convolutional networks that the GANs use; or "residual".
        hidden, activation: the mlp's layers, mirrored in the decoder.
        channels: width of the convolutional networks.
        latent_dim: d, the dimension of the sphere; a code has d + 1 numbers.
        likelihood: p(x|z); "auto" is bernoulli for binary images, discretised_logistic for grey and
            colour images, gaussian for points.
        sigma: deviation of a gaussian likelihood; none for one that the decoder gives.
        warmup: epochs over which the weight of the divergence rises from 0 to 1.
        draw_noise: whether `sample` draws from p(x|z); otherwise it shows the mean of it, as papers do.
        learning_rate: Adam's.
        batch_size: examples per update.

    Attributes:
        latent_dim: d + 1, the numbers of a code.

    Example:
        >>> model = SphericalVAE(ImageSpec(1, 28, 28), latent_dim=2)
        >>> model.encode(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        spec: Spec,
        *,
        network: CoderName = "mlp",
        hidden: Sequence[Annotated[int, Ge(1)]] = (256, 128),
        activation: ActivationName = "relu",
        channels: Annotated[int, Ge(1)] = 64,
        latent_dim: Annotated[int, Ge(1)] = 10,
        likelihood: Literal["auto"] | ObservationName = "auto",
        sigma: Annotated[float, Gt(0)] | None = None,
        warmup: Epochs = 100.0,
        draw_noise: bool = False,
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-3,
        batch_size: Annotated[int, Ge(1)] = 64,
    ) -> None:
        super().__init__(spec, warmup=warmup, batch_size=batch_size)
        self.latent_dim = latent_dim + 1
        self.draw_noise = draw_noise
        self.observation = observation(likelihood, spec, sigma=sigma)
        coder: dict[str, Any] = {
            "hidden": hidden,
            "channels": channels,
            "activation": activation,
            "condition_dim": condition_dim(spec),
        }
        self.encoder = encoder(network, spec, self.latent_dim + 1, **coder)
        self.decoder = decoder(network, spec, self.observation.outputs, latent_dim=self.latent_dim, **coder)
        self._optimizer = partial(Adam, lr=learning_rate, fused=True)

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """A few hundred weights a pixel."""
        network: CoderName = "infogan" if isinstance(spec, ImageSpec) else "mlp"
        return cls(spec, network=network, hidden=(16,), channels=4, latent_dim=2, batch_size=8)

    @property
    def code_variance(self) -> float:
        """1 / latent_dim: of a direction that is uniform on the sphere."""
        return 1 / self.latent_dim

    def players(self) -> Mapping[str, Player]:
        """One player: encoder and decoder climb the same bound."""
        return {"model": Player(list(self.parameters()), self._optimizer)}

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> VonMisesFisher:
        """q(z|x) of examples (B, *spec.shape) and condition vectors (B, d)."""
        raw = at_least_float32(self.encoder(x, condition))
        loc = F.normalize(raw[:, :-1], dim=1)
        return VonMisesFisher(loc, F.softplus(raw[:, -1]) + 1, validate_args=False)

    def terms(
        self, x: Tensor, noise: Noise, *, particles: int, condition: Tensor | None, sampled: bool
    ) -> Terms:
        """See `VariationalModel.terms`."""
        q, prior = self.posterior(x, condition), HypersphericalUniform(self.latent_dim, validate_args=False)
        # how often rejection asks for noise differs between ranks: nothing else may be drawn after it
        z = q.rsample((particles,), noise=lambda k: noise.normal(particles, k).transpose(0, 1).flatten(0, 1))
        divergence = (q.log_prob(z) - prior.log_prob(z)).mT if sampled else kl_divergence(q, prior)[:, None]
        return Terms(self.log_likelihoods(z.transpose(0, 1), x, condition), divergence)

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `LatentLikelihood.log_prior`: of N(0, I), the directions of which are uniform."""
        return gaussian_log_prob(z)

    def draw_codes(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `LatentLikelihood.draw_codes`: of N(0, I), the directions of which are uniform."""
        return self.normal(n, self.latent_dim, generator=generator)

    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.encode`: the mean direction μ(x), a unit vector."""
        check_values(self.spec, x)
        with self.evaluation():
            return self.posterior(x, self.context(condition, len(x))).loc

    def raw(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """See `DecoderModel.raw`; of the directions of codes of any length."""
        return super().raw(F.normalize(z, dim=-1), condition)
