"""The uniform law on a sphere."""

from typing import Self, TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint
from torch.nn import functional as F

from bestiary.distributions.bessel_ratio import log_area
from bestiary.errors import OptionError
from bestiary.randomness import normal_like

Shape: TypeAlias = torch.Size | list[int] | tuple[int, ...]


class _UnitVector(Constraint):
    """Vectors of length one, to 1e-4."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        """Which of the vectors (..., m) are, shape (...)."""
        length: Tensor = torch.linalg.vector_norm(value, dim=-1)
        return (length - 1).abs() < 1e-4


unit_vector = _UnitVector()


class HypersphericalUniform(Distribution):
    r"""The uniform law on the unit sphere S^{m−1} of R^m.

    .. math::
        \log p(x) = −\log \frac{2 π^{m/2}}{Γ(m/2)}

    Values are unit vectors (..., m); `log_prob` is in nats, shape (...). A circle is m = 2.

    References:
        *Hyperspherical Variational Auto-Encoders* (Davidson et al., 2018), arXiv 1804.00891: the prior.

    Arguments:
        dim: m, the dimension of the surrounding space.
        batch_shape: of independent copies.
        device, dtype: of what is drawn; torch's defaults.

    Raises:
        OptionError: m is less than 2.

    Example:
        >>> HypersphericalUniform(3).sample((5,)).shape
        torch.Size([5, 3])
    """

    arg_constraints = {}  # noqa: RUF012  (torch declares it as an instance's)
    support = unit_vector
    has_rsample = True

    def __init__(
        self,
        dim: int,
        batch_shape: Shape = (),
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if dim < 2:
            raise OptionError(f"dim: found {dim}, wanted a whole number ≥ 2, the dimension around the sphere")
        self._like = torch.empty(0, device=device, dtype=dtype)
        super().__init__(torch.Size(batch_shape), torch.Size((dim,)), validate_args=validate_args)

    @property
    def dim(self) -> int:
        """m."""
        return int(self.event_shape[0])

    @property
    def mean(self) -> Tensor:
        """0, which is not on the sphere, shape (..., m)."""
        return self._like.new_zeros(self._extended_shape())

    def expand(self, batch_shape: Shape, _instance: object = None) -> Self:
        """The same law with another batch shape."""
        kind = type(self)
        return kind(
            self.dim,
            batch_shape,
            device=self._like.device,
            dtype=self._like.dtype,
            validate_args=self._validate_args,
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """−log area, nats, shape (...)."""
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return value.new_full(shape, -log_area(self.dim))

    def entropy(self) -> Tensor:
        """Log area, nats, shape (...)."""
        return self._like.new_full(self.batch_shape, log_area(self.dim))

    def rsample(
        self,
        sample_shape: Shape = (),
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Points x = g/‖g‖ of standard normal g, shape (*sample_shape, ..., m)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return F.normalize(normal_like(self._like.new_empty(shape), generator), dim=-1)

    def sample(
        self,
        sample_shape: Shape = (),
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `rsample`."""
        return self.rsample(sample_shape, generator=generator)
