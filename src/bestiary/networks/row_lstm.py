"""Row LSTM: states row by row, each from the three nearest ones above it."""

from torch import Tensor

from bestiary.networks.lstm_layer import LSTMLayer
from bestiary.networks.lstm_scan import Sweep, row_sweep


class RowLSTM(LSTMLayer):
    """An LSTM from the top row to the bottom; a pixel's state sees a triangle above it.

    K_is is 3 × 1 along the row, of which mask B closes the tap on the right; K_ss is 3 × 1 on the row above.

    Source: *Pixel Recurrent Neural Networks* (van den Oord et al., 2016, arXiv 1601.06759), section 3.1.
    """

    directions = 1
    sources = 3
    window = 2
    blank = 0

    def sweep(self, height: int, width: int) -> Sweep:
        """Rows from the top."""
        return row_sweep(height, width)

    def joined(self, states: Tensor) -> Tensor:
        """The states themselves, (h, H, W, B)."""
        return states[0]
