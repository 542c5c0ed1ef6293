"""Metrics by nearest neighbours: neighbours themselves, manifolds, memorisation."""

import math

import pytest
import torch
from torch.nn import functional as F

from bestiary.data import load_data
from bestiary.errors import DataError, OptionError
from bestiary.metrics import (
    density_coverage,
    manifold_precision_recall,
    memorisation,
    nearest_neighbours,
    precision_recall_density_coverage,
)
from bestiary.metrics.distances import rows_at_a_time


def normal(n, d, seed=0, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, d, generator=generator, dtype=torch.float64) + shift


def memory_for(rows, d):
    """Bytes that make chunks of so many rows."""
    memory = rows * (40 * rows + 24 * d) + 1
    assert rows_at_a_time(memory, d) == rows
    return memory


@pytest.mark.parametrize("chunk", [7, 64, 1024])
def test_neighbours_equal_the_whole_matrix_in_any_chunks(chunk):
    queries, references = normal(50, 5, shift=1e3), normal(130, 5, seed=1, shift=1e3)
    distances, indices = nearest_neighbours(
        queries=queries, references=references, k=4, memory=memory_for(chunk, 5)
    )
    differences = (queries[:, None] - references).norm(dim=2)
    expected = differences.topk(4, dim=1, largest=False)
    torch.testing.assert_close(distances, expected.values, rtol=1e-12, atol=0)
    assert torch.equal(indices, expected.indices)


def test_a_copy_is_at_distance_zero():
    references = normal(300, 40, shift=100.0)
    distances, indices = nearest_neighbours(queries=references[5:9].float().double(), references=references)
    assert indices.squeeze(1).tolist() == [5, 6, 7, 8]
    distances, _ = nearest_neighbours(
        queries=references[5:9], references=references, memory=memory_for(33, 40)
    )
    assert distances.eq(0).all()


def test_neighbour_mistakes():
    with pytest.raises(DataError, match="references: found 3 examples, wanted at least 5"):
        nearest_neighbours(queries=normal(3, 2), references=normal(3, 2), k=5)
    with pytest.raises(DataError, match="queries: found 3 features an example, wanted 2"):
        nearest_neighbours(queries=normal(3, 3), references=normal(3, 2))


def test_manifold_numbers_on_a_line():
    # Balls by k = 1: around 0 and 1 radius 1, around 3 radius 2; around 0.5 and 10 radius 9.5.
    real = torch.tensor([[0.0], [1.0], [3.0]])
    fake = torch.tensor([[0.5], [10.0]])
    found = manifold_precision_recall(real=real, fake=fake, k=1)
    assert (found.precision, found.recall) == (0.5, 1.0)
    swapped = manifold_precision_recall(real=fake, fake=real, k=1)
    assert (swapped.precision, swapped.recall) == (1.0, 0.5)
    assert (swapped.n_real, swapped.n_fake) == (2, 3)
    # 0.5 lies in the balls of 0 and of 1, strictly; 10 in none. The ball of 3 (1 to 5) is empty.
    counted = density_coverage(real=real, fake=fake, k=1)
    assert counted.density == pytest.approx((2 + 0) / 2)
    assert counted.coverage == pytest.approx(2 / 3)
    assert counted.protocol == "density-coverage[features, k=1, n_real=3, n_fake=2]"


@pytest.mark.parametrize(("chunk", "k"), [(64, 3), (1024, 5)])
def test_equal_to_the_reference_implementation(chunk, k, capsys):
    prdc = pytest.importorskip("prdc")
    real, fake = normal(230, 8), normal(170, 8, seed=1, scale=0.8, shift=0.3)
    theirs = prdc.compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    capsys.readouterr()
    ours = manifold_precision_recall(real=real, fake=fake, k=k, memory=memory_for(chunk, 8))
    counted = density_coverage(real=real, fake=fake, k=k, memory=memory_for(chunk, 8))
    assert ours.precision == pytest.approx(theirs["precision"], abs=1e-12)
    assert ours.recall == pytest.approx(theirs["recall"], abs=1e-12)
    assert counted.density == pytest.approx(theirs["density"], abs=1e-12)
    assert counted.coverage == pytest.approx(theirs["coverage"], abs=1e-12)


def test_expectations_for_equal_laws_and_direction_for_others():
    real, fake = normal(400, 6), normal(300, 6, seed=1)
    equal = density_coverage(real=real, fake=fake, k=5)
    assert abs(equal.density - 1) < 3 * equal.density_error
    expected = 1 - math.prod((400 - i) / (400 + 300 - i) for i in range(1, 6))
    assert abs(equal.coverage - expected) < 3 * equal.coverage_error
    narrow = manifold_precision_recall(real=real, fake=0.4 * fake)
    wide = manifold_precision_recall(real=real, fake=2.5 * fake)
    assert narrow.precision > 0.95 > 0.5 > narrow.recall
    assert wide.recall > 0.95 > 0.5 > wide.precision
    same = manifold_precision_recall(real=real, fake=real)
    assert (same.precision, same.recall) == (1.0, 1.0)


def test_monotone_in_noise():
    real, fake, noise = normal(300, 6), normal(300, 6, seed=1), normal(300, 6, seed=2)
    noisy = [fake + s * noise for s in (0.0, 0.7, 1.5, 3.0)]
    precisions = [manifold_precision_recall(real=real, fake=f).precision for f in noisy]
    densities = [density_coverage(real=real, fake=f).density for f in noisy]
    assert precisions == sorted(precisions, reverse=True)
    assert densities == sorted(densities, reverse=True)


def inside_balls(balls, points, k):
    """(balls, points): which points lie strictly inside which balls, from all differences in float64."""
    balls, points = balls.double(), points.double()
    others = (balls[:, None] - balls).square().sum(dim=2).fill_diagonal_(math.inf)
    squares = (balls[:, None] - points).square().sum(dim=2)
    return squares < others.kthvalue(k, dim=1).values[:, None]


def hostile(kind):
    """Two sets on which products in float32, and partly in float64, cannot tell near from far."""
    real, fake = normal(60, 30), normal(50, 30, seed=1)
    if kind == "tight clusters far apart":
        centres = 1e4 * normal(5, 30, seed=2)
        return centres[torch.arange(60) % 5] + 0.01 * real, centres[torch.arange(50) % 5] + 0.01 * fake
    if kind == "one far outlier":
        real[7] *= 1e6
        return real, fake
    if kind == "lattice with ties and copies":
        return real[:, :3].round(), fake[:, :3].round()
    if kind == "tiny numbers":
        return 1e-30 * real, 1e-30 * fake
    if kind == "huge numbers":
        return 1e30 * real, 1e30 * fake
    if kind == "far from the origin":
        return 1e6 + real, 1e6 + fake
    assert kind == "a copied training set"
    return real, torch.cat([real[:30], real[:20] + 1e-9 * fake[:20]])


@pytest.mark.parametrize(
    "kind",
    [
        "tight clusters far apart",
        "one far outlier",
        "lattice with ties and copies",
        "tiny numbers",
        "huge numbers",
        "far from the origin",
        "a copied training set",
    ],
)
def test_decisions_are_those_of_float64_where_float32_cannot_tell(kind):
    real, fake = hostile(kind)
    around_real, around_fake = inside_balls(real, fake, 3), inside_balls(fake, real, 3)
    found, counted = precision_recall_density_coverage(
        real=real, fake=fake, density_k=3, memory=memory_for(23, real.shape[1])
    )
    assert found.precision == around_real.any(dim=0).double().mean().item()
    assert found.recall == around_fake.any(dim=0).double().mean().item()
    assert counted.density == pytest.approx(around_real.sum().item() / (3 * len(fake)), rel=1e-12)
    assert counted.coverage == around_real.any(dim=1).double().mean().item()
    _, nearest = nearest_neighbours(queries=fake, references=real)
    to_nearest = (fake - real[nearest.squeeze(1)]).square().sum(dim=1)
    assert torch.equal(to_nearest, (fake[:, None] - real).square().sum(dim=2).amin(dim=1))


def test_permission_to_round_products_to_bfloat16_changes_nothing():
    real, fake = normal(60, 30), normal(50, 30, seed=1)
    expected = precision_recall_density_coverage(real=real, fake=fake)
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        assert precision_recall_density_coverage(real=real, fake=fake) == expected
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "none"


def test_one_call_gives_what_the_two_give_and_needs_an_argument_of_each():
    real, fake = normal(90, 5), normal(70, 5, seed=1, scale=0.7)
    manifold, counted = precision_recall_density_coverage(real=real, fake=fake, k=2, density_k=6)
    assert manifold == manifold_precision_recall(real=real, fake=fake, k=2)
    assert counted == density_coverage(real=real, fake=fake, k=6)
    with pytest.raises(TypeError):
        precision_recall_density_coverage(real, fake)
    with pytest.raises(OptionError, match="memory: found 100 bytes, wanted at least 160 for 5 features"):
        precision_recall_density_coverage(real=real, fake=fake, memory=100)


def test_sets_of_one_and_the_same_example():
    same = torch.ones(40, 500)
    found, counted = precision_recall_density_coverage(real=same, fake=same)
    assert (found.precision, found.recall, counted.density, counted.coverage) == (0, 0, 0, 0)
    assert manifold_precision_recall(real=same[:4], fake=normal(4, 500)).precision == 0


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.2, 0.8), (0.1, 1.3)])
def test_error_bars_cover_at_about_their_stated_rate(shift, scale):
    values, errors = [], []
    for i in range(100):
        pair = {"real": normal(150, 16, 2 * i), "fake": normal(150, 16, 2 * i + 1, scale, shift)}
        found, counted = precision_recall_density_coverage(**pair)
        values.append([found.precision, found.recall, counted.density, counted.coverage])
        errors.append(
            [found.precision_error, found.recall_error, counted.density_error, counted.coverage_error]
        )
    values, errors = torch.tensor(values), torch.tensor(errors)
    lengths = errors.square().mean(dim=0).sqrt() / values.std(dim=0)
    # 100 repetitions know a deviation to 7 %; where a share is nearly 1 the bar is long on purpose.
    assert lengths.min() > 0.8
    assert lengths.max() < 1.6
    covered = ((values - values.mean(dim=0)).abs() <= errors).double().mean(dim=0)
    assert covered.min() > 0.55  # 68.3 % less three binomial deviations is 54 %


def test_the_error_bar_is_the_jackknife_without_what_it_counts_twice():
    real, fake = normal(20, 3), normal(35, 3, seed=1)  # 20 groups of one real example each
    inside = inside_balls(real, fake, 3)
    without = []  # whether each fake example is covered, without each real one
    for i in range(20):
        kept = torch.cat([real[:i], real[i + 1 :]])
        without.append(inside_balls(kept, fake, 3).any(dim=0).double())
    change = torch.stack(without) - torch.stack(without).mean(dim=0)
    influence, chance = change.sum(dim=1).square().sum(), change.square().sum()
    held = (inside.any(dim=0).sum().item() + 0.5) / 36
    variance = held * (1 - held) / 35 + 19 / 20 * max(0.0, (influence - chance).item()) / 35**2
    assert influence > chance
    found = manifold_precision_recall(real=real, fake=fake)
    assert found.precision_error == pytest.approx(math.sqrt(variance), rel=1e-6)


def test_too_few_examples_are_refused():
    with pytest.raises(DataError, match="fake: found 3 examples, wanted at least 4"):
        manifold_precision_recall(real=normal(10, 2), fake=normal(3, 2), k=3)
    with pytest.raises(DataError, match="real: found 6 examples, wanted at least 7"):
        density_coverage(real=normal(6, 2), fake=normal(10, 2), k=5)


TRAIN, HELD_OUT = normal(900, 6), normal(400, 6, seed=1)


def test_a_replayed_training_set_is_flagged():
    replay = memorisation(train=TRAIN, held_out=HELD_OUT, fake=TRAIN[:300])
    assert replay.value == pytest.approx(1.0)
    assert replay.p_value < 1e-6
    near = memorisation(train=TRAIN, held_out=HELD_OUT, fake=TRAIN[:300] + 0.1 * normal(300, 6, seed=2))
    assert near.value > 0.8
    assert near.p_value < 1e-6
    half = memorisation(train=TRAIN, held_out=HELD_OUT, fake=torch.cat([TRAIN[:200], normal(200, 6, seed=3)]))
    assert abs(half.value - 0.5) < 3 * half.error
    assert half.p_value < 1e-4


def test_held_out_data_and_honest_models_are_not_flagged():
    assert memorisation(train=TRAIN, held_out=HELD_OUT, fake=HELD_OUT).value < 0
    assert memorisation(train=TRAIN, held_out=HELD_OUT, fake=HELD_OUT).p_value > 0.99
    # fresh draws; a "blurred" model, near everything; a model that is far from everything
    for scale in (1.0, 0.3, 3.0):
        fresh = memorisation(train=TRAIN, held_out=HELD_OUT, fake=normal(500, 6, seed=5, scale=scale))
        assert fresh.p_value > 0.01
        assert abs(fresh.value) < 3 * fresh.error
    with_sizes = memorisation(train=TRAIN, held_out=HELD_OUT, fake=TRAIN[:3])
    assert (with_sizes.n_real, with_sizes.n_fake) == (1300, 3)
    assert with_sizes.protocol == "memorisation[features, n_held_out=400, n_real=900, n_fake=3]"


def test_a_collapsed_model_is_no_copyist():
    """All samples alike: their one neighbour is a training example by chance, and that proves nothing."""
    found = memorisation(train=TRAIN, held_out=HELD_OUT, fake=torch.full((300, 6), 0.1, dtype=TRAIN.dtype))
    assert abs(found.value) < 3 * found.error
    assert found.error > 0.5
    assert found.p_value > 0.01


def test_p_values_of_honest_models_are_uniform():
    p = [
        memorisation(
            train=normal(120, 3, 3 * i), held_out=normal(60, 3, 3 * i + 1), fake=normal(60, 3, 3 * i + 2, 0.6)
        ).p_value
        for i in range(300)
    ]
    p = torch.tensor(p)
    assert (p < 0.05).double().mean() < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)
    assert p.mean().item() == pytest.approx(0.5, abs=3 / math.sqrt(12 * 300))


def test_training_examples_that_are_also_held_out_count_half():
    both = normal(50, 4)
    found = memorisation(train=both, held_out=both, fake=both)
    assert found.value == 0.0
    assert found.p_value == pytest.approx(0.5)


def test_on_images_a_replay_is_flagged_and_held_out_data_are_not():
    data = load_data("digits")
    train, held_out, fresh = (s[:].x.flatten(1) for s in (data.train, data.validation, data.test))
    noise = 0.05 * torch.rand(300, 64, generator=torch.Generator().manual_seed(0))
    replay = memorisation(train=train, held_out=held_out, fake=(train[:300] + noise).clamp(0, 1))
    assert replay.value > 0.9
    assert replay.p_value < 1e-6
    blurred = F.avg_pool2d(fresh.view(-1, 1, 8, 8), 3, 1, 1).flatten(1)
    for honest in (fresh, blurred, (fresh + noise).clamp(0, 1)):
        found = memorisation(train=train, held_out=held_out, fake=honest)
        assert abs(found.value) < 3 * found.error
        assert found.p_value > 0.01
    itself = memorisation(train=train, held_out=held_out, fake=held_out)
    assert itself.value < 0
    assert itself.p_value > 0.99


@pytest.mark.parametrize("copied", [0, 20])
def test_the_error_bar_of_memorisation_is_its_deviation(copied):
    found = []
    for i in range(200):
        train, held_out = normal(120, 3, 4 * i), normal(60, 3, 4 * i + 1)
        fake = torch.cat([train[:copied], normal(60 - copied, 3, 4 * i + 2)])
        found.append(memorisation(train=train, held_out=held_out, fake=fake))
    values = torch.tensor([f.value for f in found])
    errors = torch.tensor([f.error for f in found])
    assert values.mean().item() == pytest.approx(copied / 60, abs=3 * values.std().item() / math.sqrt(200))
    assert 0.8 < errors.mean() / values.std() < 1.3
