"""The conditional VAE: every density given a class, attributes, or a part of the image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import torch
from torch import Tensor

from bestiary.config import Ge, Gt, Search, check_count
from bestiary.data.specs import ImageSpec, Spec
from bestiary.distributions.gaussian import gaussian_log_prob
from bestiary.distributions.posteriors import DiagonalNormal, PosteriorHead
from bestiary.errors import DataError, OptionError
from bestiary.models.base import Completer, Step
from bestiary.models.inputs import check_observed, condition_dim, on_levels
from bestiary.models.latent.base import Terms
from bestiary.models.latent.vae import VAE
from bestiary.models.noise import Draws, Noise
from bestiary.models.optimizers import VAEOptimizerName
from bestiary.networks.coders import encoder
from bestiary.networks.mlp import mlp
from bestiary.objectives.bounds import importance_weighted_bound

_QUADRANTS = 4
# A prior that becomes too sure where a condition is rare makes the next such example cost millions of nats.
_PRIOR_LOG_SIGMA = (-3.0, 1.0)


class ConditionalVAE(VAE, Completer):
    r"""z ~ p(z|c), x ~ p(x|z, c), trained through q(z|x, c) by the bound

    .. math::
        \log p(x|c) \ge E_{q(z|x,c)} \log p(x|z,c) - KL(q(z|x,c) \| p(z|c))

    with p(z|c) = N(μ(c), σ(c)²), both learned. The condition c is the data's class or vector of attributes
    and, for images with `glimpses`, a part of the image: then x is the rest of it. In training none to
    three of the four quadrants, chosen at random, are shown; any pixels can be shown later, and none are
    where a likelihood or a sample of a whole image is wanted.

    References:
        *Learning Structured Output Representation using Deep Conditional Generative Models* (Sohn, Lee & Yan,
        2015), NeurIPS, eq. 4, and §5.1 for quadrants; *Attribute2Image* (Yan et al., 2016), arXiv
        1512.00570, for attributes.

    Departures: the paper trains one model for each number of quadrants, this is one for all. σ(c) is
    kept within e^−3 and e.

    Arguments:
        spec: images; or points, with a condition.
        glimpses: whether parts of the image are a condition.
        glimpse_dim: numbers that the networks are told of what is shown.
        prior_hidden: units of the layers that give μ(c) and σ(c).

    Raises:
        DataError: data that are no images and have no condition.
        OptionError: another prior than the learned normal ("standard"); kl="analytic" without a closed form.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        glimpses: bool = True,
        glimpse_dim: Annotated[int, Ge(1)] = 100,
        prior_hidden: Sequence[Annotated[int, Ge(1)]] = (100,),
        optimizer: VAEOptimizerName = "adam",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-3,
        **settings: Any,
    ) -> None:
        self._glimpse_dim = glimpse_dim if glimpses and isinstance(spec, ImageSpec) else 0
        if self.context_dim(spec) == 0:
            raise DataError(
                f"condition: found {type(spec).__name__} without conditions, wanted images with"
                " glimpses=true, or data with classes or attributes"
            )
        super().__init__(spec, optimizer=optimizer, learning_rate=learning_rate, **settings)
        if self.settings["prior"] != "standard":
            raise OptionError(
                f"prior: found {self.settings['prior']!r}, wanted 'standard': codes given a condition have a"
                " learned normal as their prior"
            )
        if self.settings["posterior"] != "diagonal" and self.settings["kl"] == "analytic":
            raise OptionError(
                f"kl: found 'analytic' with posterior={self.settings['posterior']}, which has no closed form"
                " to a learned prior, wanted 'sampled' or 'auto'"
            )
        self._prior_head = PosteriorHead("diagonal", self.latent_dim)
        self.prior_network = mlp(
            self.context_dim(spec), prior_hidden, self._prior_head.outputs, activation="relu"
        )
        if self._glimpse_dim:
            assert isinstance(spec, ImageSpec)
            self.glimpse = encoder(
                self.settings["network"],
                replace(spec, channels=spec.channels + 1),
                self._glimpse_dim,
                hidden=self.settings["hidden"],
                channels=self.settings["channels"],
                activation=self.settings["activation"],
            )

    def context_dim(self, spec: Spec) -> int:
        """Length of the condition vectors: the data's own, then the glimpse's."""
        return condition_dim(spec) + self._glimpse_dim

    def context(
        self, condition: Tensor | None, n: int, *, x: Tensor | None = None, observed: Tensor | None = None
    ) -> Tensor | None:
        """Condition vectors (n, d): the data's own conditions, then what is seen of images.

        Arguments:
            condition: of the data, (n, …), or None.
            n: examples.
            x, observed: images (n, C, H, W) and which pixels are shown, bool (n, 1, H, W); None for none.
        """
        own = super().context(condition, n)
        if not self._glimpse_dim:
            return own
        if x is None or observed is None:
            shown = torch.zeros(n, self.spec.shape[0] + 1, *self.spec.shape[1:], device=self.device)
        else:
            shown = torch.cat([torch.where(observed, x, 0.0), observed.to(x)], dim=1)
        seen: Tensor = self.glimpse(shown.to(next(self.glimpse.parameters())))
        return seen if own is None else torch.cat([own, seen], dim=1)

    def code_prior(self, context: Tensor) -> DiagonalNormal:
        """p(z|c) of condition vectors (B, d)."""
        found: DiagonalNormal = self._prior_head(self.prior_network(context))
        return DiagonalNormal(found.mean, found.log_sigma.clamp(*_PRIOR_LOG_SIGMA))

    def cost(self, step: Step) -> Mapping[str, Tensor]:
        """The negative bound of what is not shown, given a random part of each image."""
        if not self._glimpse_dim:
            return super().cost(step)
        observed = self._quadrants(step)
        context = self.context(step.condition, len(step.x), x=step.x, observed=observed)
        terms = self._terms(step.x, step, 1, context, sampled=False, where=~observed)
        reconstruction, kl = terms.reconstruction.mean(), terms.divergence.mean()
        loss = self.penalty(kl, step.clock) - reconstruction
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl}

    def terms(
        self, x: Tensor, noise: Noise, *, particles: int, condition: Tensor | None, sampled: bool
    ) -> Terms:
        """See `VariationalModel.terms`."""
        return self._terms(x, noise, particles, condition, sampled=sampled)

    def _terms(
        self,
        x: Tensor,
        noise: Noise,
        particles: int,
        context: Tensor | None,
        *,
        sampled: bool,
        where: Tensor | None = None,
    ) -> Terms:
        assert context is not None  # the constructor refuses data without conditions
        q, p = self.posterior(x, context), self.code_prior(context)
        z, log_q = q.draw(noise.normal(particles, self.latent_dim).to(q.mean))
        if self._closed_form and not sampled and isinstance(q, DiagonalNormal):
            divergence = q.kl_to(p)[:, None]
        else:
            divergence = log_q - p.log_prob(z)
        return Terms(self.log_likelihoods(z, x, context, where=where), divergence)

    def log_prob_missing(
        self,
        x: Tensor,
        observed: Tensor,
        *,
        particles: int,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Bound on log p(missing pixels | observed pixels, c) by P importance samples, nats, (B,).

        Arguments:
            x: images (B, C, H, W).
            observed: bool, broadcasts to (B, 1, H, W).
            particles: P; codes are drawn from q(z|x, c).
            condition: of the data.
            generator: of the codes.

        Raises:
            DataError, OptionError: as `complete`; images outside [0, 1]; no particles.
        """
        check_count("particles", particles, least=1)
        x = on_levels(self.spec, x)
        shown = self._shown_pixels(x, observed)
        with self.evaluation():
            context = self.context(condition, len(x), x=x, observed=shown)
            noise = Draws(self, len(x), generator)
            terms = self._terms(x, noise, particles, context, sampled=True, where=~shown)
            return importance_weighted_bound(terms.log_weights.mT)

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `LatentLikelihood.log_prior`; a condition for every row of z (B, Z)."""
        context = self.context(condition, len(z))
        assert context is not None
        p = self.code_prior(context)
        return gaussian_log_prob(z, p.mean, p.log_sigma)

    def draw_codes(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `LatentLikelihood.draw_codes`."""
        with self.evaluation():
            return self._draw(self.context(condition, n), n, generator)

    def _draw(self, context: Tensor | None, n: int, generator: torch.Generator | None) -> Tensor:
        assert context is not None
        p = self.code_prior(context)
        return p.draw(self.normal(n, 1, self.latent_dim, generator=generator).to(p.mean))[0][:, 0]

    def complete(
        self,
        x: Tensor,
        observed: Tensor,
        *,
        n: int = 1,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `Completer.complete`: z ~ p(z|c), then the mean of p(x|z, c), or a draw with `draw_noise`.

        Values that are not observed do not matter, nan is fine.

        Raises:
            DataError: the model was made without glimpses; images, masks or conditions of another shape or
                kind than the spec's; observed values outside [0, 1]; some colours of a pixel, not all.
            OptionError: a number of completions below 1.
        """
        check_count("n", n, least=1)
        shown = self._shown_pixels(x, observed)
        with self.evaluation():
            context = self.context(condition, len(x), x=x, observed=shown)
            drawn = []
            for _ in range(n):
                raw = self.decoder(self._draw(context, len(x), generator), context)
                new = self.observation.draw(raw, generator) if self.draw_noise else self.observation.mean(raw)
                drawn.append(torch.where(shown, x, new))
            return torch.stack(drawn)

    def _shown_pixels(self, x: Tensor, observed: Tensor) -> Tensor:
        """Which pixels are shown, bool (B, 1, H, W), checked."""
        if not self._glimpse_dim:
            raise DataError("glimpses: found false, wanted a model that was trained with glimpses=true")
        assert isinstance(self.spec, ImageSpec)
        observed = check_observed(self.spec, x, observed)
        if not (observed == observed[:, :1]).all():
            raise DataError(
                "observed: found pixels with some of their colours, wanted all or none of a pixel's"
            )
        return observed[:, :1]

    def _quadrants(self, step: Step) -> Tensor:
        """None to three of the quadrants of each image, bool (B, 1, H, W)."""
        shown = step.uniform(1).mul(_QUADRANTS).floor()  # how many, (B, 1)
        ranks = step.uniform(_QUADRANTS).argsort(1)
        quadrants = (ranks < shown).unflatten(1, (1, 2, 2))
        height, width = self.spec.shape[1:]
        rows = (torch.arange(height, device=quadrants.device) >= height // 2).long()
        columns = (torch.arange(width, device=quadrants.device) >= width // 2).long()
        shown_pixels: Tensor = quadrants[:, :, rows][:, :, :, columns]
        return shown_pixels
