"""What PixelRNN's two-dimensional LSTM layers share: gates from the input, the states before, and conditions.

Shapes: B batch, H height, W width, h maps of a state, D directions, S states that each state comes from,
M maps that condition it. Maps come first and the batch last, (maps, H, W, B), as `lstm_scan` wants them.

Source: *Pixel Recurrent Neural Networks* (van den Oord et al., 2016, arXiv 1601.06759), section 3.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.networks.lstm_scan import Sweep, lstm_scan
from bestiary.networks.masked import MaskedConv2d, channel_groups


class LSTMLayer(nn.Module, ABC):
    """An LSTM over the pixels of an image, 2h maps in, h maps out.

    The gates are [o, f, i, g] = K_is ∗ x + K_ss ∗ h + Vᵀ·condition + U·maps + b. K_is has mask B: it sees
    the pixel itself, colour channel by colour channel, and earlier pixels of its row. States are those of
    earlier pixels, so K_ss needs no mask. The states outside the image are learned.

    Attributes:
        directions: D.
        sources: S.
        window: pixels of the row that K_is sees, the last of them the pixel itself.
        blank: columns that the layer needs to the right of the image.

    Arguments:
        channels: h.
        image_channels: C, the number of groups of maps.
        condition_dim: length of the conditioning vector, 0 for none.
        map_channels: M, 0 for none.
    """

    directions: int
    sources: int
    window: int
    blank: int

    def __init__(
        self, channels: int, *, image_channels: int, condition_dim: int = 0, map_channels: int = 0
    ) -> None:
        super().__init__()
        self.channels = channels
        gates, bound = 4 * channels * self.directions, 1 / math.sqrt(self.sources * channels)
        self.input_to_state = MaskedConv2d(
            channel_groups(2 * channels, image_channels),
            channel_groups(channels, image_channels).repeat(4 * self.directions),
            kind="B",
            kernel_size=(1, self.window),
            centre=(0, self.window - 1),
        )
        self.state_to_state = nn.Parameter(
            torch.empty(self.directions, 4 * channels, self.sources * channels).uniform_(-bound, bound)
        )
        self.hidden = nn.Parameter(torch.zeros(self.directions, channels))
        self.memory = nn.Parameter(torch.zeros(self.directions, channels))
        self.condition = nn.Linear(condition_dim, gates, bias=False) if condition_dim else None
        self.maps = nn.Linear(map_channels, gates, bias=False) if map_channels else None

    @abstractmethod
    def sweep(self, height: int, width: int) -> Sweep:
        """The order in which pixels are gone over."""

    @abstractmethod
    def joined(self, states: Tensor) -> Tensor:
        """The layer's maps (h, H, W, B) from the states of all directions, (D, h, H, W, B)."""

    def input_weight(self) -> Tensor:
        """K_is, (D, 4h, window·2h), the pixels of the window from left to right."""
        weight = self.input_to_state.masked_weight[:, :, 0].transpose(1, 2)  # (D·4h, window, 2h)
        return weight.reshape(self.directions, 4 * self.channels, -1)

    def map_weight(self) -> Tensor | None:
        """U, (D, 4h, M)."""
        return None if self.maps is None else self.maps.weight.unflatten(0, (self.directions, -1))

    def biases(self, batch: int, condition: Tensor | None) -> Tensor:
        """b + Vᵀ·condition, (D, 4h, B), from conditions (B, d)."""
        assert self.input_to_state.bias is not None
        bias = self.input_to_state.bias[:, None].expand(-1, batch)
        if self.condition is not None and condition is not None:
            bias = bias + self.condition(condition).t()
        return bias.reshape(self.directions, 4 * self.channels, batch)

    def forward(self, x: Tensor, condition: Tensor | None = None, maps: Tensor | None = None) -> Tensor:
        """The layer's maps (h, H, W, B) from x (2h, H, W, B), conditions (B, d) and maps (M, H, W, B)."""
        _, height, width, batch = x.shape
        inputs = [F.pad(x, (0, 0, shift, -shift)) if shift else x for shift in reversed(range(self.window))]
        weights, projection = [self.input_weight()], self.map_weight()
        if projection is not None and maps is not None:
            inputs, weights = [*inputs, maps], [*weights, projection]
        states = lstm_scan(
            (torch.cat(inputs) if len(inputs) > 1 else x).flatten(1, 2),
            torch.cat([*weights, self.state_to_state], dim=2),
            self.biases(batch, condition),
            self.hidden,
            self.memory,
            self.sweep(height, width),
        )
        return self.joined(states.unflatten(2, (height, width)))
