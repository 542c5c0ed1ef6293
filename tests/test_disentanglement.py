"""Disentanglement metrics on representations whose score is known: ten factors of ten values each."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score, r2_score

from bestiary.errors import DataError, OptionError
from bestiary.metrics import beta_vae_metric, dci, factor_vae_metric, mig, sap
from bestiary.metrics.disentanglement import _concentration, _explained, _squared_correlation

K, VALUES, N = 10, 10, 3000
SIZES = (VALUES,) * K
ORDER = [3, 7, 0, 9, 1, 5, 2, 8, 6, 4]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(n=N, seed=0):
    return torch.randint(VALUES, (n, K), generator=generator(seed))


def identity(v):
    return v.double()


def constant(v):
    return torch.zeros(v.shape, dtype=torch.float64)


def duplicated(v):
    return torch.cat([v, v], dim=1).double()


def permuted(v):
    return v[:, ORDER].double()


def reverse(v):
    return v.flip(1).double()


def rotated(v):
    """Pairs of factors, turned by 45 degrees."""
    x, y = v.double()[:, 0::2], v.double()[:, 1::2]
    return torch.cat([x + y, x - y], dim=1) / math.sqrt(2)


def noise(v):
    return torch.randn(v.shape, generator=generator(int(v.sum())), dtype=torch.float64)


def fixed(metric, represent, **settings):
    return metric(represent=represent, sizes=SIZES, train=2000, test=2000, generator=generator(), **settings)


def of_codes(metric, represent, n=N, **settings):
    v = drawn(n)
    return metric(codes=represent(v), factors=v, **settings)


@pytest.mark.parametrize("metric", [mig, sap], ids=["mig", "sap"])
def test_gaps_of_known_representations(metric):
    settings = {"ordered": True} if metric is sap else {}
    value = {
        r: of_codes(metric, r, **settings).value for r in (identity, constant, duplicated, rotated, noise)
    }
    assert value[identity] > 0.98
    assert value[constant] == value[duplicated] == 0
    assert abs(value[rotated]) < 0.05  # both codes of a pair say the same of both factors
    assert 0 <= value[noise] < 0.02
    assert of_codes(metric, permuted, **settings).value == pytest.approx(value[identity], abs=1e-12)


def test_fixed_factors_of_known_representations():
    for metric in (beta_vae_metric, factor_vae_metric):
        assert fixed(metric, identity).value > 0.99
        assert fixed(metric, duplicated).value > 0.99  # neither asks for a single code of a factor
        assert fixed(metric, permuted).value == pytest.approx(fixed(metric, identity).value, abs=2e-3)
        # the two factors of a pair cannot be told apart
        assert fixed(metric, rotated).value == pytest.approx(0.5, abs=0.06)
        assert fixed(metric, noise).value == pytest.approx(1 / K, abs=0.04)
    assert fixed(beta_vae_metric, constant).value == pytest.approx(1 / K, abs=0.03)  # a guess
    empty = fixed(factor_vae_metric, constant)
    assert (empty.value, empty.error, int(empty.active.sum())) == (0, None, 0)


def test_dci_of_known_representations():
    ten = of_codes(dci, identity, n=360, ordered=True)
    v = drawn(360)[:, :4]  # as fewer trees do
    found = {
        r: dci(codes=r(v), factors=v, ordered=True)
        for r in (identity, constant, duplicated, rotated, noise, reverse)
    }
    for result in (ten, found[identity], found[duplicated]):
        assert result.disentanglement.value > 0.97
        assert result.informativeness.value > 0.97
    assert ten.completeness.value > 0.97
    assert found[identity].completeness.value > 0.97
    assert found[duplicated].completeness.value == pytest.approx(1 - math.log(2, 8), abs=0.1)
    assert found[rotated].disentanglement.value == pytest.approx(1 - math.log(2, 4), abs=0.1)
    assert found[rotated].completeness.value == pytest.approx(1 - math.log(2, 4), abs=0.1)
    for part in ("disentanglement", "completeness", "informativeness"):
        assert getattr(found[noise], part).value < 0.15
    assert found[constant].disentanglement.value == found[constant].completeness.value == 0
    assert torch.allclose(found[reverse].importance, found[identity].importance.flip(0), atol=1e-3)


def test_dci_of_classes_is_accuracy():
    v = torch.randint(3, (450, 3), generator=generator())
    wrong = torch.rand(450, generator=generator(1)) < 0.3
    z = v.double()
    z[wrong, 0] = 5  # says nothing then
    found = dci(codes=z, factors=v)
    seen = (found.importance, found.disentanglement.value, found.completeness.value)
    assert seen[1] > 0.9
    assert seen[2] > 0.9
    # two factors are always right; the first is in 70 % of examples, and guessed in the rest
    accuracy = (2 + 0.7 + 0.3 / 3) / 3
    assert found.informativeness.value == pytest.approx(accuracy, abs=4 * found.informativeness.error)
    assert found.informativeness.error == pytest.approx(math.sqrt(0.2 * 0.8 / 150) / 3, rel=0.2)
    assert found.informativeness.protocol == (
        "dci informativeness[codes, 3 codes of 3 factors, boosted trees, all classes, train=300, n=450]"
    )


def test_dci_by_its_formula():
    one_each = torch.eye(5, dtype=torch.float64)
    assert _concentration(5 * one_each) == pytest.approx(1)
    assert _concentration(torch.cat([one_each, torch.zeros(2, 5)])) == pytest.approx(1)  # unused codes
    assert _concentration(torch.zeros(4, 3, dtype=torch.float64)) == 0
    assert _concentration(torch.ones(4, 3, dtype=torch.float64)) == pytest.approx(0)
    twice = torch.cat([one_each, one_each])  # two codes of each factor
    assert _concentration(twice) == pytest.approx(1)
    assert _concentration(twice.T) == pytest.approx(1 - math.log(2, 10))
    # by hand: rows of weight 1/4 and 3/4, with entropies 1 bit and that of (1/3, 2/3)
    r = torch.tensor([[0.5, 0.5], [1.0, 2.0]], dtype=torch.float64)
    entropy = -(1 / 3 * math.log2(1 / 3) + 2 / 3 * math.log2(2 / 3))
    assert _concentration(r) == pytest.approx(0 + 0.75 * (1 - entropy))


def test_sap_of_classes_is_the_accuracy_of_one_code():
    v = torch.randint(2, (1500, 3), generator=generator())
    centred = 2.0 * v - 1
    found = sap(codes=centred, factors=v)
    assert found.predictability.diagonal().tolist() == [1, 1, 1]
    assert found.value == pytest.approx(0.5, abs=0.05)  # the others guess
    assert sap(codes=centred.repeat(1, 2), factors=v).value == 0
    assert sap(codes=torch.zeros(1500, 3), factors=v).value == 0
    # as the page says: a linear classifier does not even recognise the values of a factor by itself
    assert 0.1 < of_codes(sap, identity).value < 0.3


def test_only_ordered_factors_are_numbers():
    v = torch.stack([torch.randint(2, (900,), generator=generator(s)) for s in range(2)], dim=1)
    z = 2.0 * v + 0.5 * torch.randn(900, 2, generator=generator())
    both, one, none = (sap(codes=z, factors=v, ordered=o) for o in (True, (False, True), False))
    assert torch.equal(
        one.predictability, torch.stack([none.predictability[:, 0], both.predictability[:, 1]], 1)
    )
    assert one.protocol == "sap[codes, 2 codes of 2 factors, ordered 1, train=600, n=900]"
    with pytest.raises(OptionError, match="ordered: found 3 answers, wanted one for each of the 2 factors"):
        sap(codes=z, factors=v, ordered=(True, False, True))


def test_mig_equals_an_independent_library():
    v = torch.randint(4, (500, 3), generator=generator()) * torch.tensor([1, 1, 7]) - 2  # any whole numbers
    z = v.double() @ torch.randn(3, 5, generator=generator(), dtype=torch.float64)
    found = mig(codes=z, factors=v, bins=6)
    edges = [np.histogram_bin_edges(code, 6)[1:-1] for code in z.T.numpy()]
    cells = [np.digitize(code, e) for code, e in zip(z.T.numpy(), edges, strict=True)]
    expected = np.array([[mutual_info_score(c, f) for f in v.T.numpy()] for c in cells])
    assert found.information.numpy() == pytest.approx(expected, rel=1e-9)
    entropy = np.array([mutual_info_score(f, f) for f in v.T.numpy()])
    second, best = np.sort(expected, axis=0)[-2:]
    assert found.gaps.numpy() == pytest.approx((best - second) / entropy, rel=1e-9)
    assert found.value == pytest.approx(((best - second) / entropy).mean())


def test_single_examples_add_up_to_what_they_explain():
    y = torch.randint(6, (200,), generator=generator())
    guess = y + torch.randn(200, generator=generator(), dtype=torch.float64)
    assert _explained(guess, y).mean().item() == pytest.approx(r2_score(y, guess))
    r = np.corrcoef(guess, y)[0, 1]
    assert _squared_correlation(guess, y.double()).mean().item() == pytest.approx(r**2)


@pytest.mark.parametrize("name", ["mig", "sap", "informativeness", "factor-vae", "beta-vae"])
def test_errors_cover_at_their_stated_rate(name):
    mix = torch.tensor([[1.0, 0.5], [0.2, 1.0], [0.3, 0.3]], dtype=torch.float64)

    def represent(v, seed):
        clean = v.double() @ mix.T
        return clean + 0.8 * torch.randn(clean.shape, generator=generator(seed + 1), dtype=torch.float64)

    def score(seed):
        v = torch.randint(5, (1200, 2), generator=generator(seed))
        z = represent(v, seed)
        if name == "mig":
            return mig(codes=z, factors=v, bins=8)
        if name == "sap":
            return sap(codes=z, factors=v, ordered=(True, False))
        told = _explained(v[:, 0] + 0.5 * torch.randn(1200, generator=generator(seed)), v[:, 0])
        return told.mean().item(), (told.std() / math.sqrt(1200)).item()

    if name in ("factor-vae", "beta-vae"):
        metric = factor_vae_metric if name == "factor-vae" else beta_vae_metric
        seeds = iter(range(10**6))
        scores = [
            metric(
                represent=lambda v: represent(v, next(seeds)), sizes=(5, 5), batch=4, train=500, test=200,
                generator=generator(seed),
            )
            for seed in range(60)
        ]  # fmt: skip
    else:
        scores = [score(seed) for seed in range(100 if name == "sap" else 200)]
    pairs = [s if isinstance(s, tuple) else (s.value, s.error) for s in scores]
    values, errors = torch.tensor(pairs, dtype=torch.float64).T
    assert errors.mean() == pytest.approx(values.std().item(), rel=0.25)


def test_scale_of_codes_does_not_matter():
    v = drawn(1200)
    z = identity(v) + torch.randn(v.shape, generator=generator(), dtype=torch.float64)
    for metric, settings in ((mig, {}), (sap, {"ordered": True})):
        a, b = (metric(codes=scale * z - 3, factors=v, **settings).value for scale in (1.0, 4.0))
        assert a == pytest.approx(b, rel=1e-6)
    a, b = (
        dci(codes=scale * z[:600, :3], factors=v[:600, :3], ordered=True, generator=generator())
        for scale in (1.0, 4.0)
    )
    assert torch.allclose(a.importance, b.importance)
    a, b = (fixed(factor_vae_metric, lambda v, s=s: s * rotated(v), threshold=0).votes for s in (1.0, 1e-4))
    assert torch.equal(a, b)


def test_still_codes_have_no_votes():
    def represent(v):
        still = 0.02 * torch.randn(len(v), 1, generator=generator(len(v)), dtype=torch.float64)
        return torch.cat([still, v[:, :2].double(), torch.zeros(len(v), 1)], dim=1)

    found = factor_vae_metric(represent=represent, sizes=(4, 4), train=300, test=300)
    assert found.active.tolist() == [False, True, True, False]
    assert found.value == 1
    assert torch.equal(found.votes > 0, torch.tensor([[0, 0], [1, 0], [0, 1], [0, 0]]).bool())
    assert int(found.votes.sum()) == 300
    every = factor_vae_metric(represent=represent, sizes=(4, 4), train=300, test=300, threshold=0.001)
    assert every.active.tolist() == [True, True, True, False]


def test_what_is_asked_of_a_representation():
    asked = []

    def represent(v):
        asked.append(v)
        return v.double()

    sizes = (2, 3, 5)
    found = beta_vae_metric(represent=represent, sizes=sizes, batch=16, train=300, test=100)
    assert sum(map(len, asked)) == 400 * 2 * 16
    assert max(map(len, asked)) <= 4096
    v = torch.cat(asked)
    assert v.dtype == torch.int64
    for k, size in enumerate(sizes):
        assert v[:, k].unique().tolist() == list(range(size))
    # of the pairs of one vote all share a factor
    shared = (v.view(-1, 16, 2, 3).diff(dim=2) == 0).all(dim=1).any(dim=-1)
    assert shared.all()
    assert found.protocol == "beta-vae metric[codes, 2×3×5 factors, batch=16, train=300, n=100]"
    assert found.error == pytest.approx(math.sqrt(found.value * (1 - found.value) / 100))
    asked.clear()
    factor_vae_metric(represent=represent, sizes=sizes, batch=16, train=300, test=100, examples=50)
    assert [len(asked[0]), sum(map(len, asked))] == [50, 50 + 400 * 16]
    vote = torch.cat(asked[1:]).view(-1, 16, 3)
    assert ((vote == vote[:, :1]).all(dim=1).any(dim=1)).all()


def test_same_seed_same_score():
    for metric in (beta_vae_metric, factor_vae_metric):
        a, b, c = (
            metric(represent=rotated, sizes=(3, 4), train=100, test=100, generator=generator(s)).value
            for s in (1, 1, 2)
        )
        assert a == b != c


V = torch.arange(12).view(6, 2) % 3
Z = V.double()


@pytest.mark.parametrize("metric", [mig, dci, sap], ids=["mig", "dci", "sap"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factors": Z}, r"found torch.float64 of shape \(6, 2\), wanted whole numbers of shape \(6, K\)"),
        ({"factors": V[:5]}, r"factors: found torch.int64 of shape \(5, 2\)"),
        ({"factors": V * torch.tensor([1, 0])}, "found one value only of factor 1 in these examples"),
        ({"codes": Z * math.nan}, "codes: found NaN"),
    ],
)  # fmt: skip
def test_mistakes_in_codes_and_factors(metric, settings, message):
    with pytest.raises(DataError, match=message):
        metric(**{"codes": Z, "factors": V, **settings})


def test_mistakes_in_one_line():
    with pytest.raises(OptionError, match="bins: found 1, wanted a whole number ≥ 2"):
        mig(codes=Z, factors=V, bins=1)
    with pytest.raises(DataError, match="factors: found 1, wanted at least 2"):
        dci(codes=Z, factors=V[:, :1])
    ordered = torch.tensor([0, 0, 0, 0, 1, 1])[:, None].expand(6, 2)
    with pytest.raises(DataError, match="factor 0 in the 4 training examples, which are the first"):
        sap(codes=Z, factors=ordered)
    for metric in (beta_vae_metric, factor_vae_metric):
        with pytest.raises(OptionError, match=r"sizes: found 3, wanted at least two factors"):
            metric(represent=identity, sizes=(3,))
        with pytest.raises(OptionError, match=r"sizes: found 3, 1, wanted .* at least two values"):
            metric(represent=identity, sizes=(3, 1))
        with pytest.raises(OptionError, match=r"test: found 0, wanted a whole number ≥ 1"):
            metric(represent=identity, sizes=(3, 2), test=0)
        with pytest.raises(DataError, match=r"represent\(values\): found 1 rows, wanted"):
            metric(represent=lambda v: v[:1].double(), sizes=(3, 2), train=9, test=9)
    with pytest.raises(OptionError, match=r"batch: found 1, wanted a whole number ≥ 2"):
        factor_vae_metric(represent=identity, sizes=(3, 2), batch=1)
    with pytest.raises(OptionError, match=r"threshold: found -1, wanted a number ≥ 0"):
        factor_vae_metric(represent=identity, sizes=(3, 2), threshold=-1)
