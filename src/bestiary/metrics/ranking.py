"""How well a score tells two kinds of examples apart, whatever its scale."""

import math

import torch
from torch import Tensor

from bestiary.errors import DataError
from bestiary.metrics.features import Array
from bestiary.metrics.results import Score


def auroc(*, normal: Array, anomalous: Array) -> Score:
    """Area under the receiver operating characteristic: P(score of an anomaly > score of a normal example).

    Ties count half, so that 0.5 is chance, 1 a perfect score, and less than 0.5 one that is the wrong way
    round. With ψ(a, b) = 1 for a > b, ½ for a = b and 0 else, over m anomalies a and n normal examples b

        value = 1/(mn) Σ_i Σ_j ψ(a_i, b_j),   error² = S_a/m + S_b/n,

    where S_a is the sample variance of 1/n Σ_j ψ(a_i, b_j) over i and S_b that of 1/m Σ_i ψ(a_i, b_j) over
    j. Where the two are apart without a tie, the error is 0, which is too small. O((m + n) log(m + n)).

    References: *Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves*
    (DeLong, DeLong & Clarke-Pearson, 1988), Biometrics 44(3), eqs. 3–5.

    Arguments:
        normal, anomalous: scores, higher for what is odder, shapes (n,) and (m,); they may be infinite.

    Returns:
        the area, with DeLong's standard error, None with fewer than two of a kind; `n_real` is n + m.

    Raises:
        DataError: another shape, no scores, or NaN among them.
    """
    b, a = _checked("normal", normal), _checked("anomalous", anomalous)
    above, below = _share_below(a, among=b), 1 - _share_below(b, among=a)
    error = None
    if min(len(a), len(b)) > 1:
        error = math.sqrt(float(above.var()) / len(a) + float(below.var()) / len(b))
    protocol = f"auroc[n_normal={len(b)}, n_anomalous={len(a)}]"
    return Score(float(above.mean()), error, len(a) + len(b), 0, protocol)


def _share_below(scores: Tensor, *, among: Tensor) -> Tensor:
    """The share of `among` that each score is above, equal ones by half, (len(scores),)."""
    ordered = among.sort().values
    below = torch.searchsorted(ordered, scores)
    not_above = torch.searchsorted(ordered, scores, right=True)
    return (below + not_above).double() / (2 * len(among))


def _checked(name: str, scores: Array) -> Tensor:
    found = torch.as_tensor(scores).detach().cpu().double()
    if found.ndim != 1 or not len(found):
        raise DataError(f"{name}: found shape {tuple(found.shape)}, wanted (n,): a score for each example")
    if found.isnan().any():
        raise DataError(f"{name}: found NaN among the scores, wanted numbers")
    return found
