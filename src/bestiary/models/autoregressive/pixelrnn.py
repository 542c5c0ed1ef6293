"""PixelRNN: two-dimensional LSTMs over the pixels of an image, by rows or by diagonals."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Self

from torch import Tensor

from bestiary.config import Ge, Gt, Le, Search
from bestiary.data.specs import Spec
from bestiary.models.autoregressive.base import Autoregressive
from bestiary.models.base import Player
from bestiary.models.inputs import check_maps, condition_dim
from bestiary.models.optimizers import OptimizerName, named_optimizer
from bestiary.models.schedules import linear_tail
from bestiary.networks.pixelrnn_cache import PixelRNNCache
from bestiary.networks.pixelrnn_stack import PixelRNNStack, Recurrence


class PixelRNN(Autoregressive):
    """Exact likelihood of images, as a product of softmax distributions, by LSTMs over pixels.

    log p(x) = Σ_i log p(x_i | x_1 … x_{i−1}). In each layer, with K_is seeing the layer's input and K_ss the
    states one step before,

        [o, f, i, g] = K_is ∗ x + K_ss ∗ h + Vᵀ·condition,
        c = σ(f) ⊙ c_before + σ(i) ⊙ tanh(g),    h = σ(o) ⊙ tanh(c).

    With `recurrence="row"` a step is a row, and a pixel sees a triangle above it; with "diagonal" it is a
    diagonal, from both upper corners, and a pixel sees all earlier ones.

    Images (B, C, H, W) in [0, 1] with K = `spec.levels` levels per sub-pixel; R, G and B of a pixel are
    drawn in this order. The condition is a class, one-hot, or a vector. Likelihoods are nats.

    References:
        *Pixel Recurrent Neural Networks* (van den Oord et al., 2016), arXiv 1601.06759; Vᵀ·condition of
        *Conditional Image Generation with PixelCNN Decoders* (van den Oord et al., 2016), arXiv 1606.05328.

    The defaults are the paper's CIFAR-10 models; its MNIST model has 7 diagonal layers with h = 16 and a
    head of 32. Departures from the paper: it tells no learning rate, this one is ours. Binary images have a
    softmax over two levels, the same family of laws as a sigmoid. The blocks' 1 × 1 convolutions have no
    bias, whatever reads them makes it redundant. Diagonal layers get a blank column to the right of the
    image: without it most pixels would not see the last pixel of the row above (`DiagonalBiLSTM`).

    Arguments:
        spec: images of any number of channels and levels; `condition` may be none, classes or a vector.
        recurrence: "row" (Row LSTM) or "diagonal" (Diagonal BiLSTM).
        layers: LSTM layers, after a 7 × 7 convolution with mask A.
        channels: h, maps of a state; 2h are between layers.
        head_channels: maps between the two 1 × 1 convolutions before the softmax.
        skip: whether every layer has a learned connection to the head too.
        optimizer: "rmsprop", "adam" or "soap", with their usual constants.
        learning_rate: of the optimiser.
        anneal: share of the budget, at its end, over which the learning rate falls in a line to zero.
        max_grad_norm: the gradient of an update is clipped to this norm; none for no clipping.
        batch_size: images per update.

    Example:
        >>> model = PixelRNN(ImageSpec(1, 28, 28, levels=2), layers=7, channels=16, head_channels=32)
        >>> x = model.sample(16, generator=torch.Generator().manual_seed(0))
    """

    bfloat16_safe = False  # rounding adds up over as many steps as the image has diagonals

    def __init__(
        self,
        spec: Spec,
        *,
        recurrence: Recurrence = "diagonal",
        layers: Annotated[int, Ge(1), Search(1, 12)] = 12,
        channels: Annotated[int, Ge(1), Search(8, 128, log=True)] = 128,
        head_channels: Annotated[int, Ge(1), Search(32, 1024, log=True)] = 1024,
        skip: bool = True,
        optimizer: OptimizerName = "rmsprop",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-4,
        anneal: Annotated[float, Ge(0), Le(1)] = 0.0,
        max_grad_norm: Annotated[float, Gt(0)] | None = None,
        batch_size: Annotated[int, Ge(1)] = 16,
    ) -> None:
        super().__init__(spec, batch_size=batch_size)
        check_maps(self.spec, channels=channels, head_channels=head_channels)
        self.max_grad_norm = max_grad_norm
        self.network = PixelRNNStack(
            self.spec.channels,
            self.spec.levels,
            recurrence=recurrence,
            layers=layers,
            channels=channels,
            head_channels=head_channels,
            skip=skip,
            condition_dim=condition_dim(spec),
        )
        self._optimizer = named_optimizer(optimizer, learning_rate)
        self._schedule = partial(linear_tail, share=anneal)

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """Two layers of a few maps."""
        return cls(
            spec, layers=2, channels=6, head_channels=24, optimizer="adam", learning_rate=1e-2, batch_size=16
        )

    def players(self) -> Mapping[str, Player]:
        """One, "model"."""
        return {"model": Player(list(self.parameters()), self._optimizer, self._schedule)}

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `Autoregressive.logits`."""
        self.check_images(x)
        logits: Tensor = self.network(x, self.condition_vectors(condition, len(x)))
        return logits

    def cache(self, batch: int, condition: Tensor | None = None) -> PixelRNNCache:
        """See `Autoregressive.cache`."""
        return PixelRNNCache(self.network, batch, self.spec.width, self.condition_vectors(condition, batch))
