"""Minibatch discrimination: a discriminator that sees how alike the examples of a batch are."""

from typing import Any

import torch
from torch import Tensor, nn

from bestiary.distributions.observation import at_least_float32


class MinibatchDiscrimination(nn.Module):
    r"""Appends to each example's features how close the rest of the batch is to it.

    .. math::
        M_i = f_i T, \qquad c_b(i, j) = \exp(-\|M_{i,b} - M_{j,b}\|_1), \qquad
        o_b(i) = \beta_b + \sum_{j \neq i} c_b(i, j)

    Shapes: features f (B, F) → (B, F + kernels), with T of shape (F, kernels, kernel_dim). A collapsed batch
    has large o. What comes out for one example depends on all others, so a model that uses it is
    `batch_coupled`; the output for a batch of one is β.

    References: *Improved Techniques for Training GANs* (Salimans et al., 2016), arXiv 1606.03498, §3.2, with
    what only the authors' code has: the sum leaves out j = i (a constant in the paper), a bias β that starts
    at −1, and T normalised: each column is a direction times the exponential of a learned scale
    (Salimans & Kingma, 2016, arXiv 1602.07868).

    Departures: none; `initialise` is the code's data-dependent initialisation, which runs when it is called.

    Arguments:
        features: F.
        kernels: how many similarities are appended.
        kernel_dim: numbers that each of them is computed from.
    """

    def __init__(self, features: int, kernels: int = 100, kernel_dim: int = 5) -> None:
        super().__init__()
        self.kernels = kernels
        self.direction = nn.Parameter(torch.empty(features, kernels, kernel_dim).normal_(std=0.05))
        self.log_scale = nn.Parameter(torch.zeros(kernels, kernel_dim))
        self.bias = nn.Parameter(torch.full((kernels,), -1.0))

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        similar = (-self._distances(features)).exp().sum(1) + self.bias
        return torch.cat([features, similar.to(features.dtype)], dim=1)

    @torch.no_grad()
    def initialise(self, features: Tensor) -> None:
        """Scale T so that an example's nearest neighbour is at distance 2 on average, and centre o at zero.

        `features` (B, F), B ≥ 2, are those of real examples. A kernel that sees no distance keeps its scale.
        """
        distances = self._distances(features)
        half = 0.5 * distances.amin(1).mean(0)  # (kernels,)
        half = torch.where(half > 0, half, 1)
        self.log_scale.sub_(half.log()[:, None])
        self.bias.copy_(-(-distances / half).exp().sum(1).mean(0))

    def _distances(self, features: Tensor) -> Tensor:
        """‖M_{i,b} − M_{j,b}‖₁, shape (B, B, kernels), and infinite for i = j."""
        # differences of large numbers: rounding the factors to bfloat16 would drown the small ones
        with torch.autocast(features.device.type, enabled=False):
            raw = at_least_float32(features) @ self.direction.flatten(1)
        # T's columns are scaled after the product, which is smaller than T
        scale = self.log_scale.exp() / self.direction.norm(dim=0)
        rows = (raw.unflatten(1, scale.shape) * scale).movedim(2, 0).contiguous()  # (kernel_dim, B, kernels)
        distances: Tensor = _PairwiseL1.apply(rows)  # type: ignore[no-untyped-call]
        itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
        return distances.masked_fill(itself[:, :, None], torch.inf)


class _PairwiseL1(torch.autograd.Function):
    """Σ_d |x_{dik} − x_{djk}|: (D, B, K) → (B, B, K), without keeping (D, B, B, K) for the backward pass.

    `torch.cdist` computes the same, but cannot be differentiated twice, which gradient penalties ask for.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        distances = (x[0][:, None] - x[0]).abs_()
        for row in x[1:]:
            distances += (row[:, None] - row).abs_()
        return distances

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        pairs = upstream[0] + upstream[0].transpose(0, 1)
        return torch.stack([(pairs * (row[:, None] - row).sign()).sum(1) for row in x.detach()])
