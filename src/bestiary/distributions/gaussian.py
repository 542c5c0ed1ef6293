"""Normal laws with independent dimensions, nats."""

import math

import torch
from torch import Tensor


def gaussian_kl(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(mu, sigma²) ‖ N(0, I)), shape (B, Z) → (B,); Kingma & Welling 2014, appendix B."""
    return 0.5 * (mu.square() + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(1)


def gaussian_log_prob(z: Tensor, mu: Tensor | float = 0.0, log_sigma: Tensor | float = 0.0) -> Tensor:
    """log N(z; mu, sigma²) summed over the last dimension, nats."""
    log_sigma = torch.as_tensor(log_sigma, dtype=z.dtype, device=z.device)
    scaled = (z - mu) * (-log_sigma).exp()
    return (-0.5 * scaled.square() - log_sigma - 0.5 * math.log(2 * math.pi)).sum(-1)
