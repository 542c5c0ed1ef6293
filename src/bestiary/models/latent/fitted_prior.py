"""Encoders that are given a law of codes after they were trained, and so become samplers."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor
from torch.optim import Adam

from bestiary.config import Ge, Gt, Search
from bestiary.data.specs import Spec
from bestiary.data.splits import Batch, Data, Split, split_to_fit
from bestiary.distributions.fitted_laws import FullNormalMixture, Standardised
from bestiary.distributions.priors import FlowPrior, Prior
from bestiary.errors import BestiaryError, DataError
from bestiary.models.base import Clock, ClosedForm, Encoder, Model, Move, Player, Sampler, Step
from bestiary.models.latent.autoencoder import Autoencoder
from bestiary.models.latent.spherical_vae import SphericalVAE
from bestiary.models.latent.vae import VAE
from bestiary.models.noise import Draws, Noise
from bestiary.models.schedules import linear_tail

CodesName = Literal["draws", "means"]
LatentDim = Annotated[int, Ge(1)]

_CHUNK = 500  # examples that are encoded at a time
_FLOOR = 1e-6  # of a component's variance, beside that of all codes
_ITERATIONS = 1000  # of EM, at most
_TAIL = 0.5  # share of the flow's budget over which its learning rate falls to zero


class FittedPrior(Model, Sampler, Encoder):
    r"""A trained encoder and decoder, and a density p(z) that is fitted to the codes of the training data:

    .. math::
        z \sim p(z) \approx q(z) = \frac{1}{N} \sum_n q(z|x_n), \quad x = g(z)

    It samples, encodes and decodes; `sample` gives the mean of p(x|z). It has no likelihood, since
    autoencoders have none. Where the data have conditions, encoder and decoder see them and p(z) does not:
    it is the law of all codes together.

    Codes are draws of q(z|x) where the model has one (`vae` and its kin, `spherical-vae`): their law is what
    the decoder was trained on, and the narrower law of their means is not. Of all others, a hierarchy's top
    among them, they are what `encode` gives. Codes on a sphere are fitted in the space around it, and decoded
    by their direction.

    Shapes: z (B, Z), log-densities (…) in nats.

    References:
        *From Variational to Deterministic Autoencoders* (Ghosh et al., 2020), arXiv 1903.12436, §4: ex-post
        density estimation, with a full Gaussian or a mixture of 10.
        *Diagnosing and Enhancing VAE Models* (Dai & Wipf, 2019), arXiv 1903.05789, §4: a second stage that
        learns the law of draws of q(z|x).

    Arguments:
        encoder: the trained model. It is not changed.
        law: of standardised codes, still to be fitted.
        latent_dim: Z, the numbers of its codes.
        codes: "draws" as above; "means" of q(z|x), as `encode` gives them.
        batch_size: examples that are encoded at once.

    Attributes:
        prior: p(z), with `log_prob` and `draw`.

    Raises:
        BestiaryError: a model without codes.
    """

    def __init__(
        self, encoder: Model, law: Prior, *, latent_dim: LatentDim, codes: CodesName, batch_size: int
    ) -> None:
        if not isinstance(encoder, Encoder):
            raise BestiaryError(
                f"model: found {type(encoder).__name__}, wanted one that has codes of examples, such as"
                " autoencoder or vae"
            )
        super().__init__(encoder.spec, batch_size=batch_size)
        self.encoder = encoder
        self.latent_dim, self._draws = latent_dim, codes == "draws"
        self.prior = Standardised(law, latent_dim)

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """For an autoencoder of two numbers."""
        kind: Any = cls
        model: Self = kind(Autoencoder(spec, hidden=(16,), latent_dim=2), latent_dim=2, batch_size=8)
        return model

    def codes(self, x: Tensor, condition: Tensor | None, noise: Noise) -> Tensor:
        """Codes (B, Z) of examples, draws of q(z|x) or what `encode` gives (see the class)."""
        model = self.encoder
        with self.evaluation():
            if self._draws and isinstance(model, VAE):
                q = model.posterior(x, model.context(condition, len(x)))
                return q.draw(noise.normal(1, self.latent_dim).to(q.mean))[0][:, 0]
            if self._draws and isinstance(model, SphericalVAE):
                return model.posterior(x, model.context(condition, len(x))).rsample(noise=noise.normal)
            return model.encode(x, condition=condition)

    def sample(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `Sampler.sample`."""
        with self.evaluation():
            return self.decode(self.prior.draw(n, generator), condition=condition)

    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.encode`: that of the encoder."""
        return self.encoder.encode(x, condition=condition)

    def decode(self, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.decode`: that of the encoder."""
        return self.encoder.decode(z, condition=condition)


class FittedMixture(FittedPrior, ClosedForm):
    """`FittedPrior` with a mixture of normals with whole covariances, by EM from the clusters of k-means.

    Arguments:
        encoder, latent_dim, codes, batch_size: see `FittedPrior`.
        components: K; 1 is a single Gaussian, whose fit is the codes' mean and covariance.
    """

    def __init__(
        self,
        encoder: Model,
        *,
        latent_dim: LatentDim,
        components: Annotated[int, Ge(1)] = 10,
        codes: CodesName = "draws",
        batch_size: Annotated[int, Ge(1)] = _CHUNK,
    ) -> None:
        law = FullNormalMixture(latent_dim, components)
        super().__init__(encoder, law, latent_dim=latent_dim, codes=codes, batch_size=batch_size)

    def fit(self, data: Split | Data, *, generator: torch.Generator | None = None) -> None:
        """Encode the examples once, and fit the mixture to their codes.

        Raises:
            DataError: fewer examples than two or than components, or codes that are not finite.
        """
        data = split_to_fit(data)
        # Imported only here because scikit-learn takes a second to import.
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        law = self.prior.law
        assert isinstance(law, FullNormalMixture)
        k = len(law.weights)
        if len(data) < max(2, k):
            raise DataError(f"data: found {len(data)} training examples, wanted at least {max(2, k)}")
        generator = generator or torch.Generator().manual_seed(0)
        batches = (batch.to(self.device) for batch in data.batches(self.batch_size))
        codes = torch.cat([self.codes(b.x, b.condition, Draws(self, len(b), generator)) for b in batches])
        if not codes.isfinite().all():
            raise DataError("data: found examples whose codes are not finite, wanted a model that is trained")
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        em = GaussianMixture(k, reg_covar=_FLOOR, max_iter=_ITERATIONS, random_state=seed)
        with threadpool_limits(torch.get_num_threads()), warnings.catch_warnings():
            # a slow end of EM, or fewer clusters than components: a fit all the same
            warnings.simplefilter("ignore", ConvergenceWarning)
            em.fit(self.prior.standardise(codes).cpu().double().numpy())
        law.fill(*map(torch.from_numpy, (em.weights_, em.means_, em.covariances_)))


class FittedFlow(FittedPrior):
    """`FittedPrior` with a neural spline flow (Durkan et al., 2019, arXiv 1906.04032), trained on new draws.

    Its cost is −log p(z) in the mean over examples; the encoder stays as it is.

    Arguments:
        encoder, latent_dim, codes: see `FittedPrior`.
        steps, hidden: splines, and units of the two layers of each one's network.
        learning_rate: Adam's, which falls in a line to zero over the second half of the budget.
        batch_size: examples per update.
    """

    bfloat16_safe = False  # splines find their bins by comparing numbers

    def __init__(
        self,
        encoder: Model,
        *,
        latent_dim: LatentDim,
        codes: CodesName = "draws",
        steps: Annotated[int, Ge(1)] = 3,
        hidden: Annotated[int, Ge(1)] = 64,
        learning_rate: Annotated[float, Gt(0), Search(1e-4, 1e-2, log=True)] = 2e-3,
        batch_size: Annotated[int, Ge(2)] = 250,
    ) -> None:
        law = FlowPrior(latent_dim, steps=steps, hidden=hidden)
        super().__init__(encoder, law, latent_dim=latent_dim, codes=codes, batch_size=batch_size)
        self._optimizer = partial(Adam, lr=learning_rate, fused=True)

    def initialise(self, batch: Batch) -> None:
        """Standardise the codes by those of the first batch."""
        self.prior.standardise(self.codes(batch.x, batch.condition, Draws(self, len(batch), None)))

    def players(self) -> Mapping[str, Player]:
        """One: the flow."""
        schedule = partial(linear_tail, share=_TAIL)
        return {"prior": Player(list(self.prior.parameters()), self._optimizer, schedule)}

    def moves(self, clock: Clock) -> Sequence[Move]:
        """Maximum likelihood."""
        return [Move("prior", self.cost)]

    def cost(self, step: Step) -> Mapping[str, Tensor]:
        """−log p(z), nats, in the mean over examples."""
        return {"loss": -self.prior.log_prob(self.codes(step.x, step.condition, step)).mean()}


# What a run's config file calls them.
FITTED_PRIORS: Mapping[str, type[FittedMixture] | type[FittedFlow]] = {
    "fitted-mixture": FittedMixture,
    "fitted-flow": FittedFlow,
}
