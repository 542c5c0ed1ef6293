"""PixelCNN: one stack of masked convolutions, fast to train, with a blind spot."""

from collections.abc import Mapping
from typing import Annotated, Self

from torch import Tensor

from bestiary.config import Ge, Gt, Le, Search
from bestiary.data.specs import Spec
from bestiary.models.autoregressive.base import Autoregressive
from bestiary.models.base import Clock, Player
from bestiary.models.inputs import check_maps, condition_dim
from bestiary.models.optimizers import OptimizerName, named_optimizer
from bestiary.models.schedules import exponential_decay, linear_tail
from bestiary.networks.masked_cache import MaskedStackCache
from bestiary.networks.masked_stack import MaskedStack


class PixelCNN(Autoregressive):
    """Exact likelihood of images, as a product of softmax distributions, by residual masked convolutions.

    log p(x) = Σ_i log p(x_i | x_1 … x_{i−1}), but a pixel does not see all of these: one stack of masked
    3 × 3 convolutions goes up and to the right by one column a row at most. With the 7 × 7 of the first layer
    the pixels of the row r above are seen up to r + 2 columns to the right, and all beyond are a blind spot.

    Images (B, C, H, W) in [0, 1] with K = `spec.levels` levels per sub-pixel; R, G and B of a pixel are
    drawn in this order. Likelihoods are nats.

    References:
        *Pixel Recurrent Neural Networks* (van den Oord et al., 2016), arXiv 1601.06759; cached sampling
        after *Fast Generation for Convolutional Autoregressive Models* (Ramachandran et al., 2017), arXiv
        1704.06001.

    Departures from the paper: it names RMSProp but no learning rate; the default is ours. Binary images have
    a softmax over two levels, the same family of laws as a sigmoid. It has no conditions; here a condition c,
    a class, one-hot, or a vector, adds Vᵀc before the nonlinearity that follows a block's 3 × 3, after eq. 4
    of Gated PixelCNN (van den Oord et al., 2016, arXiv 1606.05328). Of the two 1 × 1 convolutions of the head
    the first has `head_channels` maps and the second gives the logits. The paper does not say from where in a
    block a skip starts: here from its inner maps, after the 3 × 3.

    MNIST as in the reproduction that reaches 81.45 nats on dynamically binarised images (blocks 15, channels
    16, head 32; 457 epochs): `channels=16, head_channels=32, optimizer="adam", learning_rate=1e-3,
    decay=0.999977, batch_size=256`. In 28 epochs, 82.67: `optimizer="soap", learning_rate=2e-3,
    weight_decay=0.01, anneal=1, batch_size=16` (benchmarks/mnist_likelihood.py).

    Arguments:
        spec: images of any number of channels and levels; `condition` may be none, classes or a vector.
        blocks: residual blocks.
        channels: h, inner maps of a block; 2h are between blocks.
        head_channels: maps between the two 1 × 1 convolutions before the softmax.
        skip: whether every block has a learned connection to the head too.
        optimizer: "rmsprop", "adam" or "soap", with their usual constants.
        learning_rate: of the optimiser.
        decay: factor on the learning rate after every update.
        weight_decay: share of each weight that an update takes away, times the learning rate; not of rmsprop.
        anneal: share of the budget, at its end, over which the learning rate falls in a line to zero.
        batch_size: images per update.

    Example:
        >>> model = PixelCNN(ImageSpec(1, 28, 28, levels=2), channels=16, head_channels=32)
        >>> x = model.sample(16, generator=torch.Generator().manual_seed(0))
    """

    def __init__(
        self,
        spec: Spec,
        *,
        blocks: Annotated[int, Ge(1), Search(4, 20)] = 15,
        channels: Annotated[int, Ge(1), Search(16, 128, log=True)] = 128,
        head_channels: Annotated[int, Ge(1), Search(32, 1024, log=True)] = 1024,
        skip: bool = False,
        optimizer: OptimizerName = "rmsprop",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-4,
        decay: Annotated[float, Gt(0), Le(1)] = 1.0,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        anneal: Annotated[float, Ge(0), Le(1)] = 0.0,
        batch_size: Annotated[int, Ge(1)] = 16,
    ) -> None:
        super().__init__(spec, batch_size=batch_size)
        check_maps(self.spec, channels=channels, head_channels=head_channels)
        self.network = MaskedStack(
            self.spec.channels,
            self.spec.levels,
            blocks=blocks,
            channels=channels,
            first_kernel_size=7,
            head_channels=head_channels,
            skip=skip,
            condition_dim=condition_dim(spec),
        )
        self._optimizer = named_optimizer(optimizer, learning_rate, weight_decay=weight_decay)
        self._decay, self._anneal = decay, anneal

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """Two blocks of a few maps."""
        return cls(
            spec, blocks=2, channels=12, head_channels=24, optimizer="adam", learning_rate=1e-2, batch_size=16
        )

    def players(self) -> Mapping[str, Player]:
        """One, "model"."""
        return {"model": Player(list(self.parameters()), self._optimizer, self._schedule)}

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `Autoregressive.logits`."""
        self.check_images(x)
        logits: Tensor = self.network(x, self.condition_vectors(condition, len(x)))
        return logits

    def cache(self, batch: int, condition: Tensor | None = None) -> MaskedStackCache:
        """See `Autoregressive.cache`."""
        return MaskedStackCache(
            self.network, batch, self.spec.width, self.condition_vectors(condition, batch)
        )

    def _schedule(self, clock: Clock) -> float:
        return exponential_decay(clock, self._decay) * linear_tail(clock, self._anneal)
