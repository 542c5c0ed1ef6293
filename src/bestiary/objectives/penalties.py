"""Gradient penalties of adversarial games: where the slope is taken, and what it costs.

x and real (B, *shape); u is uniform on [0, 1), one number an example, broadcastable to x.
"""

import torch
from torch import Tensor


def between(real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
    """x̂ = u x + (1 − u) x̃ on the line between a real example and a generated one.

    Gulrajani et al. 2017 (arXiv 1704.00028), Algorithm 1, line 6.
    """
    return u * real + (1 - u) * fake


def around(real: Tensor, noise: Tensor, u: Tensor, *, scale: float = 0.5) -> Tensor:
    """x̂ = x + u · scale · std · noise, near the data: std is that of all numbers of the batch.

    Kodali et al. 2017 (arXiv 1705.07215), §2.3, as in the authors' code: `noise` is uniform on [0, 1), one
    number a pixel, so that the perturbation has one sign.
    """
    return real + u * scale * real.std() * noise


def slopes(output: Tensor, x: Tensor) -> Tensor:
    """‖∇_x f(x)‖₂ of each example, shape (B,), differentiable; output (B, 1) is f(x), row by row.

    Where D judges m examples at a time the output has B/m rows, and each is the slope by all m together.

    The norm is finite in its own slope where the gradient is zero: there its slope is taken to be zero.
    """
    (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    squared = gradient.reshape(len(output), -1).square().sum(1)
    flat = squared == 0
    return torch.where(flat, 0.0, torch.where(flat, 1.0, squared).sqrt())


def unit_slope_penalty(slope: Tensor) -> Tensor:
    """E (‖∇f(x̂)‖₂ − 1)²: a mean over examples of what each one's own norm costs, in both papers."""
    return (slope - 1).square().mean()
