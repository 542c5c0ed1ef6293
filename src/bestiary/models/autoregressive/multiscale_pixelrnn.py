"""Multi-scale PixelRNN: a small image first, then the whole one given the small."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal, Self

from torch import Tensor, nn

from bestiary.config import Ge, Gt, Le, Search
from bestiary.data.specs import Spec
from bestiary.models.autoregressive.base import Autoregressive
from bestiary.models.base import Player
from bestiary.models.inputs import check_maps, condition_dim
from bestiary.models.optimizers import OptimizerName, named_optimizer
from bestiary.models.schedules import linear_tail
from bestiary.networks.orders import Order, raster
from bestiary.networks.pixelrnn_cache import PixelRNNCache
from bestiary.networks.pixelrnn_stack import PixelRNNStack, Recurrence


class MultiscalePixelRNN(Autoregressive):
    """Exact likelihood of images, the pixels of a coarse grid before the others.

    log p(x) = log p(s) + log p(x | s), where s is every `factor`-th pixel of every `factor`-th row. An
    unconditional PixelRNN draws s. Upsampled by deconvolutions, s biases all gates of a second one, which
    draws the rest in raster order and so knows of what is near below and to the right.

    Images (B, C, H, W) in [0, 1] with K = `spec.levels` levels per sub-pixel; R, G and B of a pixel are
    drawn in this order. The condition is a class, one-hot, or a vector. Likelihoods are nats.

    References:
        *Pixel Recurrent Neural Networks* (van den Oord et al., 2016), arXiv 1601.06759, section 3.6.

    Departures from the paper: there the second network predicts the pixels of s too, although it is given
    them, and wastes mass on images that contradict s; here they are what s says, so that all masses sum to
    one. The paper names neither the factor nor the sizes of this model; they are those of PixelRNN here.

    Arguments:
        spec: images of any number of channels and levels; `condition` may be none, classes or a vector.
        factor: side of the image over that of the small one.
        recurrence: "row" (Row LSTM) or "diagonal" (Diagonal BiLSTM), of both networks.
        layers: LSTM layers of each network.
        channels: h, maps of a state; 2h are between layers.
        map_channels: maps of the small image upsampled.
        head_channels: maps between the two 1 × 1 convolutions before the softmax.
        optimizer: "rmsprop", "adam" or "soap", with their usual constants.
        learning_rate: of the optimiser.
        anneal: share of the budget, at its end, over which the learning rate falls in a line to zero.
        max_grad_norm: the gradient of an update is clipped to this norm; none for no clipping.
        batch_size: images per update.

    Example:
        >>> model = MultiscalePixelRNN(ImageSpec(1, 28, 28, levels=2), layers=3, channels=16)
        >>> x = model.sample(16, generator=torch.Generator().manual_seed(0))
    """

    bfloat16_safe = False  # rounding adds up over as many steps as the image has diagonals

    def __init__(
        self,
        spec: Spec,
        *,
        factor: Literal[2, 4] = 2,
        recurrence: Recurrence = "diagonal",
        layers: Annotated[int, Ge(1), Search(1, 12)] = 12,
        channels: Annotated[int, Ge(1), Search(8, 128, log=True)] = 128,
        map_channels: Annotated[int, Ge(1), Search(8, 128, log=True)] = 128,
        head_channels: Annotated[int, Ge(1), Search(32, 1024, log=True)] = 1024,
        optimizer: OptimizerName = "rmsprop",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-4,
        anneal: Annotated[float, Ge(0), Le(1)] = 0.0,
        max_grad_norm: Annotated[float, Gt(0)] | None = None,
        batch_size: Annotated[int, Ge(1)] = 16,
    ) -> None:
        super().__init__(spec, batch_size=batch_size)
        check_maps(self.spec, channels=channels, head_channels=head_channels)
        self.factor = factor
        self.max_grad_norm = max_grad_norm
        stack = partial(
            PixelRNNStack,
            self.spec.channels,
            self.spec.levels,
            recurrence=recurrence,
            layers=layers,
            channels=channels,
            head_channels=head_channels,
            condition_dim=condition_dim(spec),
        )
        self.small = stack()
        self.upsampling = _upsampling(self.spec.channels, map_channels, factor)
        self.large = stack(map_channels=map_channels)
        self._optimizer = named_optimizer(optimizer, learning_rate)
        self._schedule = partial(linear_tail, share=anneal)

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """Two layers of a few maps for each network."""
        return cls(
            spec,
            layers=2,
            channels=6,
            map_channels=6,
            head_channels=24,
            optimizer="adam",
            learning_rate=1e-2,
            batch_size=16,
        )

    @property
    def order(self) -> Order:
        """The small image's pixels, then all others, each row by row from the top."""
        pixels = raster(self.spec.height, self.spec.width)
        return sorted(pixels, key=lambda pixel: not on_grid(pixel[0], pixel[1], self.factor))

    def players(self) -> Mapping[str, Player]:
        """One, "model"."""
        return {"model": Player(list(self.parameters()), self._optimizer, self._schedule)}

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `Autoregressive.logits`."""
        self.check_images(x)
        vectors, f = self.condition_vectors(condition, len(x)), self.factor
        small = x[:, :, ::f, ::f]
        logits: Tensor = self.large(x, vectors, self.upsampled(small)).clone()
        logits[..., ::f, ::f] = self.small(small, vectors)
        return logits

    def upsampled(self, small: Tensor) -> Tensor:
        """Maps (B, M, H, W) of small images in [0, 1], (B, C, ⌈H/factor⌉, ⌈W/factor⌉)."""
        maps: Tensor = self.upsampling(2 * small - 1)
        return maps[..., : self.spec.height, : self.spec.width]

    def cache(self, batch: int, condition: Tensor | None = None) -> "MultiscaleCache":
        """See `Autoregressive.cache`."""
        return MultiscaleCache(self, batch, self.condition_vectors(condition, batch))


def on_grid(row: int, column: int, factor: int) -> bool:
    """Whether a pixel belongs to the small image."""
    return row % factor == 0 and column % factor == 0


def _upsampling(channels: int, maps: int, factor: int) -> nn.Sequential:
    """Deconvolutions, each to twice the side, with ReLUs between them."""
    layers: list[nn.Module] = []
    while factor > 1:
        layers += [nn.ConvTranspose2d(channels, maps, 4, stride=2, padding=1), nn.ReLU()]
        channels, factor = maps, factor // 2
    return nn.Sequential(*layers[:-1])


class MultiscaleCache:
    """See `Cache`: one of the small image, and when that is complete one of the whole."""

    def __init__(self, model: MultiscalePixelRNN, batch: int, condition: Tensor | None) -> None:
        spec, self._factor = model.spec, model.factor
        height, width = (-(-side // model.factor) for side in (spec.height, spec.width))
        self._model, self._condition, self._channels = model, condition, spec.channels
        self._small = PixelRNNCache(model.small, batch, width, condition)
        self._image = model.small.output.weight.new_zeros(batch, spec.channels, height, width)
        self._large: PixelRNNCache | None = None
        self._pixels = iter(raster(spec.height, spec.width))  # which the second network has yet to see

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """Logits (B, K) of one sub-pixel given all that were put; the next call may overwrite them."""
        if on_grid(row, column, self._factor):
            return self._small.logits(row // self._factor, column // self._factor, channel)
        if self._large is None:
            maps, width = self._model.upsampled(self._image), self._model.spec.width
            self._large = PixelRNNCache(self._model.large, len(maps), width, self._condition, maps)
        if channel == 0:
            self._put_grid(self._large, row, column)
        return self._large.logits(row, column, channel)

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Set the sub-pixel that was drawn to `values` in [0, 1], shape (B,)."""
        if self._large is None:
            i, j = row // self._factor, column // self._factor
            self._small.put(i, j, channel, values)
            self._image[:, channel, i, j] = values
        else:
            self._large.put(row, column, channel, values)

    def select(self, indices: Tensor) -> None:
        """Go on with other images: image b becomes what image indices[b] was, int64 (B,)."""
        self._image.copy_(self._image[indices])
        (self._small if self._large is None else self._large).select(indices)

    def _put_grid(self, large: PixelRNNCache, row: int, column: int) -> None:
        """Show the second network the small image's pixels before this one: the others it has seen."""
        for i, j in self._pixels:
            if (i, j) == (row, column):
                return
            for channel in range(self._channels):
                large.logits(i, j, channel)  # the states there are computed by it
                large.put(i, j, channel, self._image[:, channel, i // self._factor, j // self._factor])
