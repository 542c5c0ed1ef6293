"""The importance-weighted auto-encoder."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from torch import Tensor

from bestiary.config import Ge, Gt, Search
from bestiary.data.specs import Spec
from bestiary.errors import OptionError
from bestiary.models.base import Step
from bestiary.models.latent.base import KLName
from bestiary.models.latent.vae import VAE
from bestiary.models.optimizers import VAEOptimizerName
from bestiary.objectives.bounds import importance_weighted_bound


class IWAE(VAE):
    r"""A VAE trained on the tighter bound of k codes of each example,

    .. math::
        \log p(x) \ge E_{z_1 … z_k \sim q(z|x)} \log \frac{1}{k} \sum_i w_i, \quad w_i = p(x, z_i) / q(z_i|x),

    whose gradient is Σ_i w̃_i ∇ log w_i with w̃_i = w_i / Σ_j w_j (eq. 14). With k = 1 it is the VAE with
    kl="sampled".

    References:
        *Importance Weighted Autoencoders* (Burda, Grosse & Salakhutdinov, 2016), arXiv 1509.00519. The
        defaults are the paper's one-layer model: 784-200-200-50, tanh, minibatches of 20, Adam with
        ε = 1e-4, and its learning rate in stages, 3,280 epochs in all; a training that ends earlier ends in
        an earlier stage.

    Departures: the authors' code has β₁ = 0.99 and second moments that start at one; the paper says β₁ = 0.9
    and nothing of the start, as here. Their decoder's bias starts at the
    logits of the data's mean, here at zero.

    Arguments:
        spec: images or points.
        particles: k.
        warmup: epochs over which the weight of log p(z) − log q(z|x) within each w rises from 0 to 1.

    Raises:
        OptionError: kl="analytic", since log w is of the codes that are drawn.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        particles: Annotated[int, Ge(1)] = 50,
        hidden: Sequence[Annotated[int, Ge(1)]] = (200, 200),
        latent_dim: Annotated[int, Ge(1)] = 50,
        kl: KLName = "auto",
        optimizer: VAEOptimizerName = "adam",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-3,
        epsilon: Annotated[float, Gt(0)] = 1e-4,
        schedule: Literal["constant", "burda"] = "burda",
        batch_size: Annotated[int, Ge(1)] = 20,
        **settings: Any,
    ) -> None:
        if kl == "analytic":
            raise OptionError(
                "kl: found 'analytic', wanted 'sampled' or 'auto': the bound of many codes has no closed form"
            )
        super().__init__(
            spec,
            hidden=hidden,
            latent_dim=latent_dim,
            kl=kl,
            optimizer=optimizer,
            learning_rate=learning_rate,
            epsilon=epsilon,
            schedule=schedule,
            batch_size=batch_size,
            **settings,
        )
        self._particles = particles

    def cost(self, step: Step) -> Mapping[str, Tensor]:
        """The negative of the bound of k codes (eq. 8); the terms of the log are means over the codes."""
        context = self.context(step.condition, len(step.x))
        terms = self.terms(step.x, step, particles=self._particles, condition=context, sampled=True)
        log_weights = terms.reconstruction - self.warmth(step.clock) * terms.divergence
        return {
            "loss": -importance_weighted_bound(log_weights.mT).mean(),
            "reconstruction": terms.reconstruction.mean(),
            "kl": terms.divergence.mean(),
        }
