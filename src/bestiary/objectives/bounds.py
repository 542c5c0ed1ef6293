"""Bounds on the log-likelihood of latent-variable models, in nats."""

import math

from torch import Tensor


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log 1/P Σ_p w_p of log weights log p(x, z_p) − log q(z_p|x), shape (P, B) → (B,).

    Burda et al. 2016 (arXiv 1509.00519), eq. 8: the ELBO for P = 1, and log p(x) in the limit.
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))
