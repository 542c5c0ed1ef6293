"""The InfoGAN-style networks of "Are GANs Created Equal?" (Lucic et al. 2018, arXiv 1711.10337).

With `channels=64` they are the paper's: at 28 × 28 × 1 and a 64-dimensional z the generator has
6,642,241 parameters, the discriminator 6,559,169 with batch norm and 6,556,865 without, and BEGAN's
autoencoder 1,073,601 without. The initial values, the leak of 0.2 and batch norm's epsilon of 1e-3 are those
of the authors' code.
"""

from collections.abc import Callable

from torch import nn

from bestiary.data.specs import ImageSpec
from bestiary.errors import DataError
from bestiary.networks.layers import Flatten, FoldedConvTranspose2d, Unflatten

LEAK = 0.2
EPSILON = 1e-3


def generator(
    spec: ImageSpec,
    *,
    latent_dim: int,
    channels: int = 64,
    batch_norm: bool = True,
    batch_norm_decay: float = 0.999,
    outputs: int | None = None,
    activation: Callable[[], nn.Module] = lambda: nn.LeakyReLU(LEAK),
) -> nn.Sequential:
    """z of shape (B, latent_dim) → raw image (B, outputs, H, W), before the sigmoid.

    Raises:
        DataError: height or width is not divisible by 4.
    """
    norm = nn.BatchNorm1d(16 * channels, EPSILON, 1 - batch_norm_decay) if batch_norm else nn.Identity()
    upwards = _upwards(
        spec, 16 * channels, channels, batch_norm, batch_norm_decay, outputs or spec.channels, activation
    )
    return _initialised(nn.Sequential(nn.Linear(latent_dim, 16 * channels), norm, activation(), *upwards))


def discriminator(
    spec: ImageSpec,
    *,
    channels: int = 64,
    batch_norm: bool = True,
    batch_norm_decay: float = 0.999,
    outputs: int = 1,
) -> nn.Sequential:
    """Image (B, C, H, W) → raw output (B, outputs); also the encoder of the paper's VAE.

    Raises:
        DataError: height or width is not divisible by 4.
    """
    height, width = _quarter(spec)
    momentum = 1 - batch_norm_decay

    def norm(layer: nn.Module) -> nn.Module:
        return layer if batch_norm else nn.Identity()

    return _initialised(
        nn.Sequential(
            nn.Conv2d(spec.channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            norm(nn.BatchNorm2d(2 * channels, EPSILON, momentum)),
            nn.LeakyReLU(LEAK),
            Flatten(),
            nn.Linear(2 * channels * height * width, 16 * channels),
            norm(nn.BatchNorm1d(16 * channels, EPSILON, momentum)),
            nn.LeakyReLU(LEAK),
            nn.Linear(16 * channels, outputs),
        )
    )


def code_encoder(
    spec: ImageSpec,
    *,
    code_dim: int,
    channels: int = 64,
    batch_norm: bool = False,
    batch_norm_decay: float = 0.999,
) -> nn.Sequential:
    """Image (B, C, H, W) → code (B, code_dim): the first half of BEGAN's autoencoder in the authors' code.

    Raises:
        DataError: height or width is not divisible by 4.
    """
    height, width = _quarter(spec)
    return _initialised(
        nn.Sequential(
            nn.Conv2d(spec.channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            Flatten(),
            nn.Linear(2 * channels * height * width, code_dim),
            nn.BatchNorm1d(code_dim, EPSILON, 1 - batch_norm_decay) if batch_norm else nn.Identity(),
            nn.LeakyReLU(LEAK),
        )
    )


def code_decoder(
    spec: ImageSpec,
    *,
    code_dim: int,
    channels: int = 64,
    batch_norm: bool = False,
    batch_norm_decay: float = 0.999,
) -> nn.Sequential:
    """Code (B, code_dim) → raw image (B, C, H, W), before the sigmoid: the second half.

    Raises:
        DataError: height or width is not divisible by 4.
    """
    upwards = _upwards(
        spec, code_dim, channels, batch_norm, batch_norm_decay, spec.channels, lambda: nn.LeakyReLU(LEAK)
    )
    return _initialised(nn.Sequential(*upwards))


def _upwards(
    spec: ImageSpec,
    inputs: int,
    channels: int,
    batch_norm: bool,
    batch_norm_decay: float,
    outputs: int,
    activation: Callable[[], nn.Module],
) -> list[nn.Module]:
    """The layers from features (B, inputs) to maps (B, outputs, H, W)."""
    height, width = _quarter(spec)
    momentum = 1 - batch_norm_decay
    features = 2 * channels * height * width
    transposed = FoldedConvTranspose2d if outputs == 1 else nn.ConvTranspose2d

    def norm(layer: nn.Module) -> nn.Module:
        return layer if batch_norm else nn.Identity()

    return [
        nn.Linear(inputs, features),
        norm(nn.BatchNorm1d(features, EPSILON, momentum)),
        activation(),
        Unflatten(2 * channels, height, width),
        nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1),
        norm(nn.BatchNorm2d(channels, EPSILON, momentum)),
        activation(),
        transposed(channels, outputs, 4, stride=2, padding=1),
    ]


def _quarter(spec: ImageSpec) -> tuple[int, int]:
    if spec.height % 4 or spec.width % 4:
        raise DataError(
            f"image size: found {spec.height}x{spec.width}, the infogan networks want height and width"
            " divisible by 4: choose another size for the folder, or network=mlp"
        )
    return spec.height // 4, spec.width // 4


def _initialised(network: nn.Sequential) -> nn.Sequential:
    for module in network:
        if isinstance(module, nn.Conv2d) and not isinstance(module, nn.ConvTranspose2d):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
        elif isinstance(module, nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return network
