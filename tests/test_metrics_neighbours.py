"""Metrics by nearest neighbours: neighbours themselves, manifolds, memorisation."""

import math

import pytest
import torch

from bestiary.errors import DataError
from bestiary.metrics import density_coverage, manifold_precision_recall, memorisation, nearest_neighbours


def normal(n, d, seed=0, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, d, generator=generator, dtype=torch.float64) + shift


@pytest.mark.parametrize("chunk", [7, 64, 1024])
def test_neighbours_equal_the_whole_matrix_in_any_chunks(chunk):
    queries, references = normal(50, 5, shift=1e3), normal(130, 5, seed=1, shift=1e3)
    distances, indices = nearest_neighbours(queries=queries, references=references, k=4, chunk=chunk)
    differences = (queries[:, None] - references).norm(dim=2)
    expected = differences.topk(4, dim=1, largest=False)
    torch.testing.assert_close(distances, expected.values, rtol=1e-12, atol=0)
    assert torch.equal(indices, expected.indices)


def test_a_copy_is_at_distance_zero():
    references = normal(300, 40, shift=100.0)
    distances, indices = nearest_neighbours(queries=references[5:9].float().double(), references=references)
    assert indices.squeeze(1).tolist() == [5, 6, 7, 8]
    distances, _ = nearest_neighbours(queries=references[5:9], references=references, chunk=33)
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
    ours = manifold_precision_recall(real=real, fake=fake, k=k, chunk=chunk)
    counted = density_coverage(real=real, fake=fake, k=k, chunk=chunk)
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


@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_error_bars_are_not_too_short_and_not_absurdly_long(scale):
    pairs = [(normal(200, 16, 2 * i), normal(200, 16, 2 * i + 1, scale, 0.2)) for i in range(60)]
    found = [manifold_precision_recall(real=r, fake=f) for r, f in pairs]
    counted = [density_coverage(real=r, fake=f) for r, f in pairs]
    for results, name in (
        (found, "precision"),
        (found, "recall"),
        (counted, "density"),
        (counted, "coverage"),
    ):
        deviation = torch.tensor([getattr(r, name) for r in results]).std().item()
        error = torch.tensor([getattr(r, f"{name}_error") for r in results]).mean().item()
        assert 0.8 * deviation < error < 2.5 * deviation, name


def test_the_error_of_density_is_a_delete_one_jackknife():
    real, fake = normal(40, 3), normal(30, 3, seed=1)
    influence = []
    for i in range(40):
        kept = torch.cat([real[:i], real[i + 1 :]])
        influence.append(density_coverage(real=kept, fake=fake, k=3).density)
    by_real = torch.tensor(influence, dtype=torch.float64).var() * 39
    alone = [density_coverage(real=real, fake=fake[[j, j]], k=3).density for j in range(30)]
    by_fake = torch.tensor(alone, dtype=torch.float64).var() / 30
    error = density_coverage(real=real, fake=fake, k=3).density_error
    assert error == pytest.approx((by_real + by_fake).sqrt().item(), rel=1e-9)


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
