"""The area under the ROC curve: another library's number, a closed form, and its error by repetition."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from bestiary.errors import DataError
from bestiary.metrics import auroc


@pytest.mark.parametrize("levels", [0, 5], ids=["distinct", "ties"])
def test_as_scikit_learn(levels):
    draw = np.random.default_rng(0)
    normal, anomalous = draw.standard_normal(70), draw.standard_normal(40) + 0.5
    if levels:
        normal, anomalous = np.round(normal), np.round(anomalous)
    truth = np.repeat([0, 1], [70, 40])
    found = auroc(normal=normal, anomalous=torch.tensor(anomalous))
    assert found.value == pytest.approx(roc_auc_score(truth, np.concatenate([normal, anomalous])), abs=1e-12)
    assert found.value > 0.55  # and the other way round is another number
    swapped = auroc(normal=anomalous, anomalous=normal)
    assert swapped.value == pytest.approx(1 - found.value, abs=1e-12)
    assert swapped.error == pytest.approx(found.error, abs=1e-12)
    assert (found.n_real, found.n_fake) == (110, 0)
    assert found.protocol == "auroc[n_normal=70, n_anomalous=40]"


def test_two_gaussians_and_the_error_by_repetition():
    """P(a > b) = Φ(1/√2) for a ~ N(1, 1), b ~ N(0, 1)."""
    draw, exact = np.random.default_rng(1), NormalDist().cdf(1 / math.sqrt(2))
    found = [
        auroc(normal=draw.standard_normal(60), anomalous=draw.standard_normal(30) + 1) for _ in range(1000)
    ]
    values, errors = np.array([f.value for f in found]), np.array([f.error for f in found])
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / math.sqrt(1000))
    # The deviation of 1,000 values is known to 2.2 %.
    assert math.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.08)


def test_the_error_is_that_of_the_paper_by_hand():
    """ψ of a = (1, 3) over b = (0, 2, 1): 1/3·(1 + 0 + ½), 1; of b under a: 1, ½, ¾."""
    found = auroc(normal=[0.0, 2.0, 1.0], anomalous=[1.0, 3.0])
    assert found.value == pytest.approx(0.75)
    assert found.error == pytest.approx(math.sqrt(0.125 / 2 + 0.0625 / 3))


def test_ends():
    apart = auroc(normal=[0.0, 1.0], anomalous=[2.0, math.inf])
    assert (apart.value, apart.error) == (1, 0)
    assert auroc(normal=[1.0, 1.0], anomalous=[1.0, 1.0]).value == 0.5
    assert auroc(normal=[1.0], anomalous=[2.0, 3.0]).error is None


def test_mistakes():
    with pytest.raises(DataError, match=r"normal: found shape \(1, 2\), wanted \(n,\)"):
        auroc(normal=[[0.0, 1.0]], anomalous=[1.0])
    with pytest.raises(DataError, match=r"anomalous: found shape \(0,\)"):
        auroc(normal=[0.0, 1.0], anomalous=[])
    with pytest.raises(DataError, match="anomalous: found NaN among the scores"):
        auroc(normal=[0.0, 1.0], anomalous=[math.nan])
