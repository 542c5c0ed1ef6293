"""The variational auto-encoder, with the posteriors and priors that improved it as arguments."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor
from torch.optim import Adagrad, Adam, Optimizer

from bestiary.config import Ge, Gt, Le, Lt, Search
from bestiary.data.specs import ImageSpec, Spec
from bestiary.distributions.observation import ObservationName, observation
from bestiary.distributions.posteriors import Posterior, PosteriorHead, PosteriorName
from bestiary.distributions.priors import (
    FlowPrior,
    NormalMixture,
    Prior,
    PriorName,
    StandardNormal,
    VampPrior,
)
from bestiary.errors import OptionError
from bestiary.models.base import Clock, Player
from bestiary.models.inputs import check_values, condition_dim
from bestiary.models.latent.base import DecoderModel, Epochs, KLName, Terms
from bestiary.models.noise import Noise
from bestiary.models.optimizers import VAEOptimizerName
from bestiary.models.schedules import burda_stages, linear_tail
from bestiary.models.soap import SOAP
from bestiary.networks.coders import CoderName, decoder, encoder
from bestiary.networks.mlp import ActivationName


class VAE(DecoderModel):
    r"""z ~ p(z), x ~ p(x|z), trained through an encoder q(z|x) by the bound

    .. math::
        \log p(x) \ge E_{q(z|x)} \log p(x|z) - KL(q(z|x) \| p(z)).

    In the paper p(z) = N(0, I) and q(z|x) = N(μ(x), σ(x)²). Where the data have conditions, encoder and
    decoder see them, and the prior does not.

    Shapes and units: x (B, \*spec.shape), images in [0, 1]; z (B, Z); bounds in nats, shape (B,).

    References:
        *Auto-Encoding Variational Bayes* (Kingma & Welling, 2014), arXiv 1312.6114: the bound, one hidden
        layer of 500 tanh units, minibatches of 100, one sample of z an example, Adagrad.
        *PixelCNN++* (Salimans et al., 2017), arXiv 1701.05517: the discretised logistic.
        *VAE with a VampPrior* (Tomczak & Welling, 2018), arXiv 1705.07120: mixtures as priors.
        *Improved Variational Inference with Inverse Autoregressive Flow* (Kingma et al., 2016), arXiv
        1606.04934: flows as posteriors.
        *Are GANs Created Equal?* (Lucic et al., 2018), arXiv 1711.10337: the infogan networks, with
        likelihood="bernoulli", and batch norm in the decoder at least.

    Departures: the likelihood of grey images is a discretised logistic, since a Bernoulli on grey levels
    is the likelihood of nothing; weights start Glorot-uniform instead of N(0, 0.01²), with which deeper
    networks start dead; the weak prior on the weights is left out. Tomczak & Welling have another optimiser
    (Adam of normalised gradients) and a log-variance within [−6, 2]; Lucic et al. σ = 1e-6 + softplus, here
    exp.

    Arguments:
        spec: images or points.
        network: "mlp"; "infogan", the convolutional networks that the GANs use; or "residual".
        hidden, activation: the mlp's layers, mirrored in the decoder.
        channels: width of the convolutional networks.
        batch_norm: in which of the infogan networks: "none", "decoder" or "both".
        batch_norm_decay: of batch norm's moving averages.
        latent_dim: Z.
        likelihood: p(x|z); "auto" is bernoulli for binary images, discretised_logistic for grey and
            colour images, gaussian for points.
        sigma: deviation of a gaussian likelihood; none for one that the decoder gives.
        posterior: "diagonal", "full" (a whole covariance) or "flow" (inverse autoregressive).
        prior: "standard" normal, "mixture" of normals, "vampprior" or "flow" (neural spline).
        components: of the mixture, or pseudo-examples of the VampPrior.
        kl: "analytic", in closed form, which takes a standard prior and no flow; "sampled", log q(z|x) −
            log p(z) at the code that is drawn; "auto", in closed form where there is one.
        warmup: epochs over which the weight of the divergence rises from 0 to 1.
        draw_noise: whether `sample` draws from p(x|z); otherwise it shows the mean of it, as papers do.
        optimizer, learning_rate: "adagrad" in the paper, "adam", or "soap".
        beta1: of Adam.
        epsilon: of Adagrad and Adam, beside the root of the second moments.
        schedule: "constant", or "burda", the stages of Burda et al. (2016): a factor of 10^{−i/7} on the
            learning rate for 3^i epochs, i = 0 … 7.
        anneal: share of the budget, at its end, over which the learning rate falls in a line to zero.
        max_grad_norm: the gradient of an update is clipped to this norm; none for no clipping.
        batch_size: examples per update.

    Raises:
        OptionError: kl="analytic" without a closed form; batch norm in other networks than infogan.

    Example:
        >>> model = VAE(ImageSpec(1, 28, 28), latent_dim=2)
        >>> model.elbo(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        spec: Spec,
        *,
        network: CoderName = "mlp",
        hidden: Sequence[Annotated[int, Ge(1)]] = (500,),
        activation: ActivationName = "tanh",
        channels: Annotated[int, Ge(1)] = 64,
        batch_norm: Literal["none", "decoder", "both"] = "none",
        batch_norm_decay: Annotated[float, Ge(0), Lt(1)] = 0.999,
        latent_dim: Annotated[int, Ge(1)] = 20,
        likelihood: Literal["auto"] | ObservationName = "auto",
        sigma: Annotated[float, Gt(0)] | None = None,
        posterior: PosteriorName = "diagonal",
        prior: PriorName = "standard",
        components: Annotated[int, Ge(1)] = 500,
        kl: KLName = "auto",
        warmup: Epochs = 0.0,
        draw_noise: bool = False,
        optimizer: VAEOptimizerName = "adagrad",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 0.02,
        beta1: Annotated[float, Ge(0), Lt(1)] = 0.9,
        epsilon: Annotated[float, Gt(0)] = 1e-8,
        schedule: Literal["constant", "burda"] = "constant",
        anneal: Annotated[float, Ge(0), Le(1)] = 0.0,
        max_grad_norm: Annotated[float, Gt(0)] | None = None,
        batch_size: Annotated[int, Ge(1)] = 100,
    ) -> None:
        super().__init__(spec, warmup=warmup, batch_size=batch_size)
        self.max_grad_norm = max_grad_norm
        closed_form = prior == "standard" and posterior != "flow"
        if kl == "analytic" and not closed_form:
            raise OptionError(
                f"kl: found 'analytic' with prior={prior} and posterior={posterior}, which have no closed"
                " form, wanted 'sampled' or 'auto'"
            )
        self._closed_form = closed_form and kl != "sampled"
        self.latent_dim = latent_dim
        self.draw_noise = draw_noise
        self.observation = observation(likelihood, spec, sigma=sigma)
        self.head = PosteriorHead(posterior, latent_dim)
        coder: dict[str, Any] = {
            "hidden": hidden,
            "channels": channels,
            "activation": activation,
            "condition_dim": self.context_dim(spec),
            "batch_norm_decay": batch_norm_decay,
        }
        if batch_norm != "none" and network != "infogan":
            raise OptionError(
                f"batch_norm: found {batch_norm!r} with network={network}, wanted network=infogan"
            )
        self.encoder = encoder(network, spec, self.head.outputs, batch_norm=batch_norm == "both", **coder)
        self.decoder = decoder(
            network,
            spec,
            self.observation.outputs,
            latent_dim=latent_dim,
            batch_norm=batch_norm != "none",
            **coder,
        )
        self.prior = self._make_prior(prior, components)
        common: dict[str, Any] = {"lr": learning_rate, "eps": epsilon, "fused": True}
        optimizers: dict[VAEOptimizerName, Callable[..., Optimizer]] = {
            "adagrad": partial(Adagrad, **common),
            "adam": partial(Adam, betas=(beta1, 0.999), **common),
            # without a basis for pixels: that of 28 × 28 costs far more than the rest of an update
            "soap": partial(SOAP, lr=learning_rate, longest=512),
        }
        self._optimizer = optimizers[optimizer]
        self._staged, self._anneal = schedule == "burda", anneal

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """A few hundred weights a pixel."""
        network: CoderName = "infogan" if isinstance(spec, ImageSpec) else "mlp"
        settings: dict[str, Any] = {"network": network, "hidden": (16,), "channels": 4, "latent_dim": 2}
        return cls(spec, batch_size=8, **settings)

    def context_dim(self, spec: Spec) -> int:
        """Length of the condition vectors that encoder and decoder see."""
        return condition_dim(spec)

    def _make_prior(self, name: PriorName, components: int) -> Prior:
        if name == "vampprior":
            if self.spec.condition is not None:
                raise OptionError("prior: found 'vampprior' for data with conditions, wanted another prior")
            return VampPrior(
                self.posterior,
                latent_dim=self.latent_dim,
                shape=self.spec.shape,
                components=components,
                bounded=isinstance(self.spec, ImageSpec),
            )
        if name == "mixture":
            return NormalMixture(self.latent_dim, components)
        return FlowPrior(self.latent_dim) if name == "flow" else StandardNormal(self.latent_dim)

    def players(self) -> Mapping[str, Player]:
        """One player: encoder, decoder and prior climb the same bound."""
        return {"model": Player(list(self.parameters()), self._optimizer, self._schedule)}

    def _schedule(self, clock: Clock) -> float:
        return linear_tail(clock, self._anneal) * (burda_stages(clock) if self._staged else 1.0)

    def terms(
        self, x: Tensor, noise: Noise, *, particles: int, condition: Tensor | None, sampled: bool
    ) -> Terms:
        """See `VariationalModel.terms`."""
        posterior = self.posterior(x, condition)
        z, log_q = posterior.draw(noise.normal(particles, self.latent_dim).to(posterior.mean))
        kl = posterior.kl() if self._closed_form and not sampled else None
        divergence = log_q - self.log_prior(z, condition) if kl is None else kl[:, None]
        return Terms(self.log_likelihoods(z, x, condition), divergence)

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> Posterior:
        """q(z|x) of examples (B, *spec.shape) and condition vectors (B, d)."""
        found: Posterior = self.head(self.encoder(x, condition))
        return found

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `LatentLikelihood.log_prior`."""
        return self.prior.log_prob(z)

    def draw_codes(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `LatentLikelihood.draw_codes`."""
        with self.evaluation():
            return self.prior.draw(n, generator)

    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.encode`."""
        check_values(self.spec, x)
        with self.evaluation():
            return self.posterior(x, self.context(condition, len(x))).mean
