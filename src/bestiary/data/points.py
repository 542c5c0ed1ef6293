"""Mixtures of Gaussians, in the plane and in 1,200 dimensions, whose every mode is known."""

import math
from typing import Annotated

import torch
from torch import Tensor

from bestiary.config import Ge, Gt
from bestiary.data.specs import PointSpec
from bestiary.data.splits import ArraySplit, Batch, Data, EndlessSplit
from bestiary.randomness import derive_seed

HELD_OUT = 10_000
_SEED = 0x706F696E74  # a namespace of its own: no training draws what is held out
_MEANS_1200D = (-1.0, -0.5, 0.0, 0.5, -2.0, -2.5, 10.0, 0.25, -13.0, -5.5)
NOISY_1200D = 700  # coordinates of `mixture-1200d` that vary within a mode; the other 500 are its mean


def ring_centres(modes: int = 8, radius: float = 2.0) -> Tensor:
    """The means of `ring`: radius·exp(2πi·k/modes), k = 0 … modes−1, shape (modes, 2)."""
    angle = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
    return (radius * torch.stack([angle.cos(), angle.sin()], dim=1)).float()


def grid_centres(side: int = 5, spacing: float = 2.0) -> Tensor:
    """The means of `grid`: a square centred on 0, row by row, shape (side², 2)."""
    line = spacing * (torch.arange(side, dtype=torch.float32) - (side - 1) / 2)
    return torch.cartesian_prod(line, line)


def mixture_1200d_centres() -> Tensor:
    """The means of `mixture-1200d`: m·(1, …, 1) for ten numbers m from −13 to 10, shape (10, 1200)."""
    return torch.tensor(_MEANS_1200D)[:, None].expand(-1, 1200).clone()


def ring(
    *,
    modes: Annotated[int, Ge(1)] = 8,
    radius: Annotated[float, Gt(0)] = 2.0,
    sigma: Annotated[float, Gt(0)] = 0.02,
    size: Annotated[int, Ge(1)] | None = None,
) -> Data:
    """Equally heavy Gaussians on a circle; validation and test are 10,000 fixed points each.

    References: Unrolled Generative Adversarial Networks (Metz et al., 2017), arXiv:1611.02163.

    Arguments:
        modes: number of Gaussians; `ring_centres` gives their means.
        radius: of the circle.
        sigma: standard deviation of each Gaussian, in both directions.
        size: number of fixed training points; none makes new ones for ever.
    """
    return _mixture("ring", ring_centres(modes, radius), sigma, size)


def grid(
    *,
    side: Annotated[int, Ge(1)] = 5,
    spacing: Annotated[float, Gt(0)] = 2.0,
    sigma: Annotated[float, Gt(0)] = 0.05,
    size: Annotated[int, Ge(1)] | None = None,
) -> Data:
    """Equally heavy Gaussians on a square grid; validation and test are 10,000 fixed points each.

    References: VEEGAN (Srivastava et al., 2017), arXiv:1705.07761.

    Arguments:
        side: Gaussians in a row; `grid_centres` gives the means of all side².
        spacing: distance between neighbours; 5 and 2.0 give the means {−4, −2, 0, 2, 4}².
        sigma: standard deviation of each Gaussian, in both directions.
        size: number of fixed training points; none makes new ones for ever.
    """
    return _mixture("grid", grid_centres(side, spacing), sigma, size)


def mixture_1200d(*, size: Annotated[int, Ge(1)] | None = None) -> Data:
    """Ten equally heavy Gaussians of 700 dimensions in R^1200; validation and test are 10,000 points each.

    x = m·(1, …, 1) + (ε, 0) with ε ~ N(0, I) of 700 coordinates: each mode lies on a flat of its own. The
    closest modes, m = 0 and ¼, are 8.7 deviations apart. `mode_coverage` says what a sample of quality is.

    References: VEEGAN (Srivastava et al., 2017), arXiv:1705.07761, §4.1; the means are those of PacGAN (Lin
    et al., 2018), arXiv:1712.04086.

    Arguments:
        size: number of fixed training points; none makes new ones for ever.
    """
    centres = mixture_1200d_centres()
    return _mixture("mixture-1200d", centres, (torch.arange(centres.shape[1]) < NOISY_1200D).float(), size)


def _mixture(name: str, centres: Tensor, sigma: float | Tensor, size: int | None) -> Data:
    def draw(n: int, generator: torch.Generator) -> Batch:
        where = generator.device
        mode = torch.randint(len(centres), (n,), generator=generator, device=where).cpu()
        noise = torch.randn(n, centres.shape[1], generator=generator, device=where).cpu()
        return Batch(centres[mode] + sigma * noise)

    def fixed(n: int, part: int) -> ArraySplit:
        return ArraySplit(draw(n, torch.Generator().manual_seed(derive_seed(_SEED, part))).x, levels=None)

    train = EndlessSplit(draw) if size is None else fixed(size, 1)
    return Data(name, PointSpec(dim=centres.shape[1]), train, fixed(HELD_OUT, 2), fixed(HELD_OUT, 3))
