"""What a model sees when it predicts a pixel: the derivative of its logits by the image.

Shapes: B batch, C channels, H height, W width, K levels.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from bestiary.errors import OptionError
from bestiary.models.autoregressive.base import Autoregressive
from bestiary.tasks.likelihood_maps import check_autoregressive


@dataclass(frozen=True)
class ReceptiveField:
    """How strongly the logits of one sub-pixel depend on every sub-pixel of the image.

    Attributes:
        strength: mean over images of Σ_k ``|∂ logit_k / ∂x|``, float64, shape (C, H, W).
        earlier: pixels that are drawn before this one, bool (H, W).
    """

    strength: Tensor
    earlier: Tensor

    @property
    def seen(self) -> Tensor:
        """Pixels that any image's logits depend on, bool (H, W)."""
        return (self.strength > 0).any(dim=0)

    @property
    def unseen(self) -> Tensor:
        """Earlier pixels that the logits do not depend on, bool (H, W): out of reach, or in a blind spot."""
        return self.earlier & ~self.seen


def receptive_field(
    model: Autoregressive,
    x: Tensor,
    *,
    row: int,
    column: int,
    channel: int = 0,
    condition: Tensor | None = None,
) -> ReceptiveField:
    """The receptive field of one sub-pixel's prediction, by automatic differentiation in float64.

    Zeros are exact: a pixel that the masks hide has none but zero derivatives. What is not hidden may be
    faint; rectifiers that are off hide it on some images, so take a few.

    References:
        *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks* (Luo et al.,
        2016), arXiv 1701.04128; the blind spot of masked convolutions: *Conditional Image Generation with
        PixelCNN Decoders* (van den Oord et al., 2016), arXiv 1606.05328, figure 1.

    Arguments:
        model: any autoregressive model of images, trained or not; it is not changed.
        x: images in [0, 1], shape (B, C, H, W); K backward passes of them are made.
        row, column, channel: of the sub-pixel that is predicted.
        condition: one row per image where the spec has a condition, else None.

    Raises:
        OptionError: a sub-pixel outside the image.
        DataError: images or conditions of another shape or kind than the spec's.
    """
    check_autoregressive(model)
    spec = model.spec
    place = (channel, row, column)
    if not all(0 <= i < size for i, size in zip(place, spec.shape, strict=True)):
        raise OptionError(
            f"channel, row, column: found {place}, wanted a sub-pixel of an image of shape {spec.shape}"
        )
    exact = copy.deepcopy(model).double().eval()
    images = x.detach().double().requires_grad_()
    vectors = condition.double() if condition is not None and condition.is_floating_point() else condition
    logits = exact.logits(images, vectors)[:, :, channel, row, column].sum(dim=0)
    strength = torch.zeros_like(images)
    for logit in logits:
        strength += torch.autograd.grad(logit, images, retain_graph=True)[0].abs()
    earlier = torch.zeros(spec.shape[1:], dtype=torch.bool, device=x.device)
    order = [tuple(pixel) for pixel in model.order]
    for i, j in order[: order.index((row, column))]:
        earlier[i, j] = True
    return ReceptiveField(strength.mean(dim=0), earlier)
