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


def gaussian_log_prob_pairs(z: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    """log N(z_n; mu_k, sigma_k²) of every pair of codes (N, Z) and normal laws (K, Z), nats, (K, N).

    Two products of matrices in place of K·N·Z numbers in memory. The squares are differences of far larger
    numbers then, hence float64; MPS, which has none, takes each pair by itself.
    """
    if z.device.type == "mps":
        return gaussian_log_prob(z, mu[:, None], log_sigma[:, None])
    codes, mean, precision = z.double(), mu.double(), (-2 * log_sigma.double()).exp()
    constant = (precision * mean.square() + 2 * log_sigma.double()).sum(1, keepdim=True)
    squares = constant + precision @ codes.square().mT - 2 * (precision * mean) @ codes.mT
    return (-0.5 * (squares + z.shape[1] * math.log(2 * math.pi))).to(z.dtype)
