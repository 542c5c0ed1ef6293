"""What the pretrained networks have in common."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Means and deviations of the colours of ImageNet, which most networks were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class InvertedResidual(nn.Sequential):
    """1×1 expansion, depthwise convolution, linear 1×1 projection; added to the input where shapes agree.

    References: *MobileNetV2: Inverted Residuals and Linear Bottlenecks* (Sandler et al., 2018), arXiv
    1801.04381.

    Arguments:
        unit: makes a convolution with its normalisation and activation, of (inputs, outputs, kernel,
            stride, groups=, activation=).
        inputs, outputs: channels.
        kernel, stride: of the depthwise convolution.
        expansion: hidden channels per input.
    """

    def __init__(
        self,
        unit: Callable[..., list[nn.Module]],
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
    ) -> None:
        hidden = inputs * expansion
        super().__init__(
            *(unit(inputs, hidden) if expansion > 1 else ()),
            *unit(hidden, hidden, kernel, stride, groups=hidden),
            *unit(hidden, outputs, activation=False),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ⌈H / stride⌉, ⌈W / stride⌉)."""
        y = x
        for layer in self:
            y = layer(y)
        return x + y if self.residual else y


def resized(x: Tensor, side: int) -> Tensor:
    """Images (B, C, H, W) as (B, C, side, side): bilinear, antialiased when they shrink."""
    if x.shape[2:] == (side, side):
        return x
    # In channels-last memory this is several times as fast.
    x = x.contiguous(memory_format=torch.channels_last)
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)


def in_colour(x: Tensor) -> Tensor:
    """Images (B, 1 or 3, H, W) as (B, 3, H, W) in channels-last memory; grey is copied to the colours."""
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def normalised(x: Tensor) -> Tensor:
    """Colour images (B, 3, H, W) in [0, 1], less the mean of ImageNet's colours, over their deviation."""
    mean, deviation = x.new_tensor(IMAGENET_MEAN), x.new_tensor(IMAGENET_DEVIATION)
    return (x - mean[:, None, None]) / deviation[:, None, None]


def fuse(module: nn.Module) -> None:
    """Fold every batch normalisation into the convolution before it: the same function, in less time."""
    children = list(module.named_children())
    for (name, child), (follower, normalisation) in pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, normalisation))
            setattr(module, follower, nn.Identity())
    for child in module.children():
        fuse(child)
