"""Mode coverage where the modes are known, and the divergences of the mode histogram."""

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from bestiary.data import grid_centres, load_data, mixture_1200d_centres, ring_centres
from bestiary.errors import DataError, OptionError
from bestiary.metrics import ClassifierEmbedding, channel_probabilities, mode_coverage, stacked_mode_coverage
from bestiary.metrics.modes import _coverage

MIXTURES = {
    "ring": {"centres": ring_centres(), "sigma": 0.02},
    "grid": {"centres": grid_centres(), "sigma": 0.05},
    "mixture-1200d": {"centres": mixture_1200d_centres(), "sigma": 1.0, "dimensions": 700},
}


@pytest.mark.parametrize("name", MIXTURES)
def test_a_perfect_sampler_scores_the_mass_of_three_sigma_in_any_dimension(name):
    found = mode_coverage(fake=load_data(name).test[:2500].x, **MIXTURES[name])
    modes = len(MIXTURES[name]["centres"])
    assert (found.value, found.error, found.modes, found.n_fake) == (modes, 0.0, modes, 2500)
    assert abs(found.quality.value - (1 - math.exp(-4.5))) < 4 * found.quality.error
    for divergence in (found.forward_kl, found.reverse_kl):
        assert 0 < divergence.value < 4 * (modes - 1) / (2 * 2500)


def test_the_published_ten_sigma_would_call_every_true_sample_bad():
    x = load_data("mixture-1200d").test[:2500].x
    assert torch.cdist(x, mixture_1200d_centres()).min() > 20
    name = mode_coverage(fake=x, **MIXTURES["mixture-1200d"]).protocol
    assert name == "modes[points, 10 centres, within 28.08σ (3σ's mass, 700 dimensions), n=2500]"


def test_modes_of_the_1200_dimensions_are_told_apart_by_the_nearest_centre():
    centres = mixture_1200d_centres()
    noise = torch.randn(4000, 1200, generator=torch.Generator().manual_seed(0))
    noise[:, 700:] = 0
    two = centres[[2, 7]].repeat(2000, 1)  # m = 0 and ¼, the closest pair
    counts = mode_coverage(fake=two + noise, **MIXTURES["mixture-1200d"]).counts
    assert min(counts[2], counts[7]) > 1900
    assert sum(counts) == counts[2] + counts[7]


def test_the_disc_of_the_papers_is_three_sigma_wide_and_open():
    edge = torch.tensor([[2.999, 0.0], [3.0, 0.0], [3.001, 0.0], [0.0, -2.999]], dtype=torch.float64)
    found = mode_coverage(fake=edge, centres=torch.zeros(1, 2), sigma=1.0)
    assert found.counts == (2,)
    assert found.quality.value == 0.5
    assert found.protocol == "modes[points, 1 centres, within 3σ, n=4]"


def test_bad_samples_count_nowhere():
    far = ring_centres() * 1.5
    found = mode_coverage(fake=far, **MIXTURES["ring"])
    assert (found.value, found.error, found.quality.value) == (0.0, 0.0, 0.0)
    assert math.isnan(found.reverse_kl.value)
    both = mode_coverage(fake=torch.cat([far, ring_centres()[:3]]), **MIXTURES["ring"])
    assert both.counts == (1, 1, 1, 0, 0, 0, 0, 0)
    assert both.quality.value == pytest.approx(3 / 11)
    assert both.reverse_kl.value == pytest.approx(math.log(8 / 3))


def test_divergences_equal_an_independent_library_and_are_not_swapped():
    counts = [500, 250, 150, 100]
    found = _coverage(torch.tensor(counts), 1200, "")
    q, p = np.array(counts) / 1000, np.full(4, 0.25)
    assert found.reverse_kl.value == pytest.approx(rel_entr(q, p).sum(), rel=1e-12)
    assert found.forward_kl.value == pytest.approx(rel_entr(p, q).sum(), rel=1e-12)
    assert found.quality.value == pytest.approx(1000 / 1200)
    missed = _coverage(torch.tensor([*counts, 0]), 1000, "")
    assert missed.forward_kl.value == math.inf
    assert missed.reverse_kl.value == pytest.approx(found.reverse_kl.value + math.log(5 / 4))


def test_one_mode_is_the_largest_divergence():
    found = _coverage(torch.tensor([7, 0, 0, 0]), 7, "")
    assert (found.value, found.reverse_kl.error) == (1.0, 0.0)
    assert found.reverse_kl.value == pytest.approx(math.log(4))


def test_the_error_of_the_count_is_its_jackknife():
    counts = torch.tensor([1, 5, 0, 1, 3])
    n = 12  # two samples are in no mode
    without = []
    for i, many in enumerate(counts.tolist()):
        less = counts.clone()
        less[i] -= 1
        without += [int((less > 0).sum())] * many
    without = np.array(without + [int((counts > 0).sum())] * 2)
    jackknife = math.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    assert _coverage(counts, n, "").error == pytest.approx(jackknife, rel=1e-12)


@pytest.mark.parametrize("skew", [0.0, 0.5])
def test_the_errors_of_the_divergences_cover_at_their_stated_rate(skew):
    weights = torch.exp(skew * torch.linspace(-1, 1, 25, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.multinomial(weights, 2500, replacement=True, generator=generator) for _ in range(300)]
    results = [_coverage(torch.bincount(modes, minlength=25), 2500, "") for modes in drawn]
    for scores in ([r.forward_kl for r in results], [r.reverse_kl for r in results]):
        values, errors = torch.tensor([[s.value, s.error] for s in scores], dtype=torch.float64).T
        assert 0.6 < ((values - values.mean()).abs() < errors).double().mean() < 0.76
        assert errors.mean() == pytest.approx(values.std().item(), rel=0.15)


def one_hot(labels, classes=10):
    return torch.nn.functional.one_hot(labels, classes).double()


def test_stacked_modes_are_red_green_blue():
    labels = torch.tensor([[1, 2, 3], [1, 2, 3], [9, 0, 0]])
    found = stacked_mode_coverage(probabilities=one_hot(labels), embedding="classifier acc=0.990")
    assert (found.value, found.modes, found.quality.value) == (2.0, 1000, 1.0)
    assert (found.counts[123], found.counts[900]) == (2, 1)
    assert found.error == pytest.approx(math.sqrt(2 / 3 * 2 / 3))
    assert found.protocol == "modes[classifier acc=0.990, 10³ stacked classes, n=3]"


def test_uniform_stacks_have_the_divergence_of_the_sample_size():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (26_000, 3), generator=generator)
    found = stacked_mode_coverage(probabilities=one_hot(labels))
    assert found.value == 1000
    assert found.reverse_kl.value == pytest.approx(999 / 52_000, abs=4 * found.reverse_kl.error)
    labels[:, 1] = 4
    assert stacked_mode_coverage(probabilities=one_hot(labels)).value == 100


class Brightness(torch.nn.Module):
    """Ten features, the one of the mean grey level's tenth lit."""

    def forward(self, images):
        return one_hot((images.mean(dim=(1, 2, 3)) * 10).long()).float()


@pytest.fixture
def brightness():
    head = torch.nn.Linear(10, 10, bias=False)
    with torch.no_grad():
        head.weight.copy_(100 * torch.eye(10))
    return ClassifierEmbedding("brightness", "brightness", network=Brightness(), head=head)


def test_each_channel_is_classified_by_itself(brightness):
    levels = torch.tensor([[0.05, 0.15, 0.25], [0.95, 0.45, 0.55]])
    images = levels[:, :, None, None].expand(-1, -1, 4, 4)
    whole = channel_probabilities(images, brightness)
    assert whole.argmax(dim=2).tolist() == [[0, 1, 2], [9, 4, 5]]
    assert torch.equal(channel_probabilities(images.split(1), brightness), whole)
    assert torch.equal(channel_probabilities(images.numpy(), brightness), whole)
    counts = stacked_mode_coverage(probabilities=whole).counts
    assert (counts[12], counts[945]) == (1, 1)


def test_mistakes(brightness):
    ring = MIXTURES["ring"]
    with pytest.raises(DataError, match=r"fake: found points of R\^3, wanted R\^2 as the centres"):
        mode_coverage(fake=torch.zeros(5, 3), **ring)
    with pytest.raises(DataError, match="fake: found NaN"):
        mode_coverage(fake=torch.full((5, 2), math.nan), **ring)
    with pytest.raises(OptionError, match="dimensions: found 3, wanted 1 to 2"):
        mode_coverage(fake=torch.zeros(5, 2), **ring, dimensions=3)
    with pytest.raises(OptionError, match="sigma: found 0, wanted a number > 0"):
        mode_coverage(fake=torch.zeros(5, 2), centres=ring_centres(), sigma=0)
    with pytest.raises(DataError, match=r"probabilities: found shape \(5, 10\), wanted \(n, 3, K\)"):
        stacked_mode_coverage(probabilities=torch.full((5, 10), 0.1))
    with pytest.raises(DataError, match="sum to 1"):
        stacked_mode_coverage(probabilities=torch.ones(5, 3, 10))
    with pytest.raises(DataError, match=r"images: found shape \(2, 1, 4, 4\), wanted \(n, 3, H, W\)"):
        channel_probabilities(torch.zeros(2, 1, 4, 4), brightness)
