"""Maxout, and the networks of the ring and the grid in the protocol of PacGAN.

References:
    *Maxout Networks* (Goodfellow et al., 2013), arXiv 1302.4389.
    *PacGAN: The Power of Two Samples in Generative Adversarial Networks* (Lin et al., 2018), arXiv
    1712.04086, appendix: the networks; initial values and batch norm's details are those of the authors'
    code.
"""

from torch import Tensor, nn

_GENERATOR_UNITS, _GENERATOR_LAYERS = 400, 4
_DISCRIMINATOR_UNITS, _DISCRIMINATOR_LAYERS, _PIECES = 200, 3, 5
_DEVIATION = 0.02
_EPSILON, _MOMENTUM = 1e-4, 0.05


class Maxout(nn.Module):
    """max_j (W_j x + b_j) over `pieces` affine maps, shape (B, inputs) → (B, outputs) (Goodfellow, 2013)."""

    def __init__(self, inputs: int, outputs: int, pieces: int) -> None:
        super().__init__()
        self.affine = nn.Linear(inputs, pieces * outputs)
        # pieces before outputs: the maximum then runs over whole rows, which is faster
        self.split = nn.Unflatten(1, (pieces, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        pieces: Tensor = self.split(self.affine(x))
        return pieces.amax(1)


def pacgan_generator(latent_dim: int, dim: int) -> nn.Sequential:
    """z of shape (B, latent_dim) → points (B, dim): four layers of 400 units with batch norm and ReLU.

    With z and points of the plane it has 484,802 parameters. Only the last layer has a bias.
    """
    layers: list[nn.Module] = []
    for layer in range(_GENERATOR_LAYERS):
        layers += [
            nn.Linear(_GENERATOR_UNITS if layer else latent_dim, _GENERATOR_UNITS, bias=False),
            nn.BatchNorm1d(_GENERATOR_UNITS, _EPSILON, _MOMENTUM),
            nn.ReLU(),
        ]
    return _initialised(nn.Sequential(*layers, nn.Linear(_GENERATOR_UNITS, dim)))


def pacgan_discriminator(dim: int, outputs: int = 1) -> nn.Sequential:
    """Points (B, dim) → raw output (B, outputs): three maxout layers of 200 units with five pieces each.

    The last module is the linear one. For points of the plane it has 405,201 parameters; m points packed
    together are one of m·dim dimensions.
    """
    layers = [
        Maxout(_DISCRIMINATOR_UNITS if layer else dim, _DISCRIMINATOR_UNITS, _PIECES)
        for layer in range(_DISCRIMINATOR_LAYERS)
    ]
    return _initialised(nn.Sequential(*layers, nn.Linear(_DISCRIMINATOR_UNITS, outputs)))


def _initialised(network: nn.Sequential) -> nn.Sequential:
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=_DEVIATION)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
