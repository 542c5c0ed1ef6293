"""Gated PixelCNN: two stacks of gated masked convolutions that see every earlier pixel."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal, Self

from torch import Tensor

from bestiary.config import Ge, Gt, Le, Search
from bestiary.data.specs import Spec
from bestiary.models.autoregressive.base import Autoregressive
from bestiary.models.base import Player
from bestiary.models.inputs import check_maps, condition_dim
from bestiary.models.optimizers import OptimizerName, named_optimizer
from bestiary.models.schedules import linear_tail
from bestiary.networks.gated_cache import GatedStackCache
from bestiary.networks.gated_stack import GatedStack

KernelSize = Literal[3, 5, 7, 9, 11]


class GatedPixelCNN(Autoregressive):
    """Exact likelihood of images, as a product of softmax distributions, by gated masked convolutions.

    log p(x | h) = Σ_i log p(x_i | x_1 … x_{i−1}, h), each layer with
    y = tanh(W_f ∗ x + V_fᵀh) ⊙ σ(W_g ∗ x + V_gᵀh).

    Images (B, C, H, W) in [0, 1] with K = `spec.levels` levels per sub-pixel; R, G and B of a pixel are
    drawn in this order. The condition h is a class, one-hot, or a vector. Likelihoods are nats.

    References:
        *Conditional Image Generation with PixelCNN Decoders* (van den Oord et al., 2016), arXiv
        1606.05328; masks and head of *Pixel Recurrent Neural Networks* (van den Oord et al., 2016), arXiv
        1601.06759; cached sampling after *Fast Generation for Convolutional Autoregressive Models*
        (Ramachandran et al., 2017), arXiv 1704.06001.

    Departures from the paper: it names no optimiser; RMSProp is that of the PixelRNN paper, its rate ours.
    Binary images have a softmax over two levels, the same family of laws as a sigmoid. The vertical stack is
    moved down one row at its first layer instead of at every link; up to the image's border the two are
    the same function. The residual convolutions have no bias, the next layer's makes it redundant.

    Arguments:
        spec: images of any number of channels and levels; `condition` may be none, classes or a vector.
        layers: gated layers, the first one (mask A) included.
        channels: feature maps p of each stack.
        kernel_size: n of the n × n field of a layer.
        first_kernel_size: n of the first layer.
        head_channels: maps between the two 1 × 1 convolutions before the softmax.
        optimizer: "rmsprop", "adam" or "soap", with their usual constants.
        learning_rate: of the optimiser.
        weight_decay: share of each weight that an update takes away, times the learning rate; not of rmsprop.
        anneal: share of the budget, at its end, over which the learning rate falls in a line to zero.
        batch_size: images per update.

    Example:
        >>> model = GatedPixelCNN(ImageSpec(1, 28, 28), layers=7, channels=32)
        >>> x = model.sample(16, generator=torch.Generator().manual_seed(0))
    """

    compiled = ("network",)

    def __init__(
        self,
        spec: Spec,
        *,
        layers: Annotated[int, Ge(1), Search(4, 20)] = 20,
        channels: Annotated[int, Ge(1), Search(16, 384, log=True)] = 384,
        kernel_size: KernelSize = 5,
        first_kernel_size: KernelSize = 7,
        head_channels: Annotated[int, Ge(1), Search(32, 1024, log=True)] = 1024,
        optimizer: OptimizerName = "rmsprop",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-4,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        anneal: Annotated[float, Ge(0), Le(1)] = 0.0,
        batch_size: Annotated[int, Ge(1)] = 128,
    ) -> None:
        super().__init__(spec, batch_size=batch_size)
        check_maps(self.spec, channels=channels, head_channels=head_channels)
        self.network = GatedStack(
            self.spec.channels,
            self.spec.levels,
            layers=layers,
            channels=channels,
            first_kernel_size=first_kernel_size,
            kernel_size=kernel_size,
            head_channels=head_channels,
            condition_dim=condition_dim(spec),
        )
        self._optimizer = named_optimizer(optimizer, learning_rate, weight_decay=weight_decay)

        self._schedule = partial(linear_tail, share=anneal)

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """Two layers of 3 × 3 and a few maps."""
        return cls(
            spec,
            layers=2,
            channels=12,
            kernel_size=3,
            first_kernel_size=3,
            head_channels=24,
            optimizer="adam",
            learning_rate=1e-2,
            batch_size=16,
        )

    def players(self) -> Mapping[str, Player]:
        """One, "model"."""
        return {"model": Player(list(self.parameters()), self._optimizer, self._schedule)}

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `Autoregressive.logits`."""
        self.check_images(x)
        logits: Tensor = self.network(x, self.condition_vectors(condition, len(x)))
        return logits

    def cache(self, batch: int, condition: Tensor | None = None) -> GatedStackCache:
        """See `Autoregressive.cache`."""
        return GatedStackCache(self.network, batch, self.spec.width, self.condition_vectors(condition, batch))
