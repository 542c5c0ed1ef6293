"""The slow and obvious way to sample an autoregressive model: the oracle of every cached sampler."""

import torch
from torch import Tensor

from bestiary.models.autoregressive.base import Autoregressive
from bestiary.models.autoregressive.drawing import inverse_cdf


@torch.no_grad()
def naive_sample(
    model: Autoregressive, uniform: Tensor, *, condition: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """Images (n, C, H, W) in [0, 1] from uniform numbers of that shape, one forward pass per sub-pixel.

    With uniform = `model.uniform(n, *model.spec.shape, generator=g)` it draws what `model.sample` draws
    from the same generator state.
    """
    x = torch.zeros_like(uniform, dtype=next(model.parameters()).dtype)
    for i, j in model.order:
        for c in range(model.spec.channels):
            logits = model.logits(x, condition)[:, :, c, i, j]
            levels = inverse_cdf(logits, uniform[:, c, i, j].contiguous(), temperature)
            x[:, c, i, j] = levels.to(x.dtype) / (model.spec.levels - 1)
    return x
