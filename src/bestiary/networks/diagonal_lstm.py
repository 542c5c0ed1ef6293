"""Diagonal BiLSTM: states from both upper corners, which together see all earlier pixels."""

import torch.nn.functional as F
from torch import Tensor

from bestiary.networks.lstm_layer import LSTMLayer
from bestiary.networks.lstm_scan import Sweep, diagonal_sweep


class DiagonalBiLSTM(LSTMLayer):
    """Two LSTMs, from the top left and from the top right; a state comes from those beside and above it.

    K_is is 1 × 1; K_ss is 2 × 1 along the diagonal before. The map of the second LSTM, which sees pixels to
    the right, is moved down one row and added.

    A map that is moved down never sees the last pixel of the row above: states see earlier pixels than
    their own, and there is no state after the last pixel. Hence the blank column on the right: its
    states, which come after the last pixel of a row and before the first of the next, do see it.

    Source: *Pixel Recurrent Neural Networks* (van den Oord et al., 2016, arXiv 1601.06759), section 3.2.
    """

    directions = 2
    sources = 2
    window = 1
    blank = 1

    def sweep(self, height: int, width: int) -> Sweep:
        """Diagonals from both upper corners."""
        return diagonal_sweep(height, width)

    def joined(self, states: Tensor) -> Tensor:
        """The left map plus the right one moved down one row, (h, H, W, B)."""
        left, right = states.unbind()
        moved: Tensor = F.pad(right, (0, 0, 0, 0, 1, -1))
        return left + moved
