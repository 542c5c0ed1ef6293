"""How many latent dimensions a model uses."""

from dataclasses import dataclass

from bestiary.errors import OptionError
from bestiary.metrics.features import Array, check_features, protocol
from bestiary.metrics.results import Score

ACTIVE = 0.01  # of the prior's variance


@dataclass(frozen=True)
class ActiveUnits(Score):
    """Number of active units (`value`); the count has no error bar.

    Attributes:
        variances: Var_x E[z_u | x] of each unit u.
    """

    variances: tuple[float, ...]


def active_units(*, means: Array, threshold: float = ACTIVE) -> ActiveUnits:
    """Latent units u with Var_x(E_{q(z|x)}[z_u]) > 0.01: those whose posterior mean tells examples apart.

    References: *Importance Weighted Autoencoders* (Burda et al., 2016), arXiv 1509.00519, §5.1.

    Arguments:
        means: posterior means of examples, (n, Z): `model.encode(x)`.
        threshold: of the variance; the default is meant for a prior of variance 1.

    Raises:
        DataError: wrong shape, fewer than two examples, or values that are not finite.
        OptionError: a negative threshold.
    """
    if not threshold >= 0:
        raise OptionError(f"threshold: found {threshold}, wanted a number ≥ 0")
    z = check_features("means", means).double()
    variances = z.var(dim=0)
    return ActiveUnits(
        value=float((variances > threshold).sum()),
        error=None,
        n_real=len(z),
        n_fake=0,
        protocol=protocol("active-units", f"variance>{threshold:g}", len(z), len(z), f"of {z.shape[1]}"),
        variances=tuple(variances.tolist()),
    )
