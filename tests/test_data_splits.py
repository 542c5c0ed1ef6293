"""Splits and batch order: every index, every treatment, and where training resumes."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bestiary.data import ArraySplit, Batch, BatchOrder, EndlessSplit, load_data
from bestiary.data.splits import flat_parts
from bestiary.errors import DataError


def levels(n=10, top=16, shape=(1, 4, 4)):
    return np.random.default_rng(0).integers(0, top + 1, (n, *shape), dtype=np.uint8)


class TestArraySplit:
    def test_examples_are_levels_over_the_highest(self):
        k = levels()
        x = ArraySplit(k, levels=17).take(torch.tensor([3, 0, 3])).x
        assert x.dtype == torch.float32
        assert torch.equal(x * 16, torch.from_numpy(k[[3, 0, 3]]).float())

    def test_what_are_no_levels_is_one_line(self):
        with pytest.raises(
            DataError, match="x: found float32 for images of 256 levels, wanted whole numbers"
        ):
            ArraySplit(np.random.rand(3, 1, 4, 4).astype(np.float32), levels=256)
        with pytest.raises(DataError, match="x: found levels from 0 to 200, wanted them from 0 to 15"):
            ArraySplit(np.array([0, 200], dtype=np.uint8).reshape(2, 1, 1, 1), levels=16)

    def test_points_are_what_networks_compute_with(self):
        assert ArraySplit(np.random.rand(3, 2), levels=None)[0].x.dtype == torch.float32

    def test_rows_come_in_parts_of_few_numbers(self):
        split = ArraySplit(levels(), levels=17)
        parts = list(flat_parts(split, numbers=50))
        assert [len(part) for part in parts] == [3, 3, 3, 1]
        assert torch.equal(torch.cat(parts), split[:].x.flatten(1))

    @pytest.mark.parametrize(
        ("index", "rows"),
        [
            (2, [2]),
            (-1, [9]),
            (np.int64(4), [4]),
            (slice(1, 9, 3), [1, 4, 7]),
            ([5, 0], [5, 0]),
            (torch.tensor([7, 7]), [7, 7]),
            (torch.arange(10) >= 8, [8, 9]),
        ],
    )
    def test_every_kind_of_index(self, index, rows):
        split = ArraySplit(np.arange(10, dtype=np.float32)[:, None], levels=None, labels=torch.arange(10))
        assert split[index].x[:, 0].tolist() == rows

    @pytest.mark.parametrize("index", [10, -11, [0, 10], slice(0, 3)])
    def test_out_of_range_is_refused_and_slices_are_cut(self, index):
        split = ArraySplit(levels(), levels=17)
        if isinstance(index, slice):
            assert len(split[8:99].x) == 2
        else:
            with pytest.raises(IndexError, match=r"out of bounds for axis 0 with size 10"):
                split[index]

    def test_a_mask_must_fit(self):
        with pytest.raises(IndexError, match=r"found shape \(3,\), wanted \(10,\)"):
            ArraySplit(levels(), levels=17)[torch.tensor([True, False, True])]

    def test_batches_cover_everything_in_order(self):
        split = ArraySplit(levels(), levels=17)
        batches = list(split.batches(4))
        assert [len(b) for b in batches] == [4, 4, 2]
        assert torch.equal(torch.cat([b.x for b in batches]), split[:].x)
        assert [len(b) for b in split.batches(4, limit=5)] == [4, 1]
        assert list(split.batches(4, limit=0)) == []

    def test_rows_choose_and_order_the_examples(self):
        k = levels()
        rows = np.array([6, 1, 4])
        split = ArraySplit(k, levels=17, rows=rows, labels=torch.tensor([60, 10, 40]), conditional=True)
        assert len(split) == 3
        batch = split.take(torch.tensor([2, 0]))
        assert torch.equal(batch.x * 16, torch.from_numpy(k[[4, 6]]).float())
        assert batch.condition.tolist() == [40, 60]
        with pytest.raises(IndexError):
            split[3]

    def test_memory_map_gives_the_same(self, tmp_path):
        k = levels(100, 255, (3, 8, 8))
        np.save(tmp_path / "k.npy", k)
        mapped = ArraySplit(np.load(tmp_path / "k.npy", mmap_mode="r"), levels=256)
        indices = torch.randint(100, (32,))
        x = mapped.take(indices).x
        assert torch.equal(x, ArraySplit(k, levels=256).take(indices).x)
        x.zero_()  # a batch is a copy: the file stays as it was
        assert np.array_equal(np.load(tmp_path / "k.npy"), k)

    def test_condition_without_labels_is_refused(self):
        with pytest.raises(
            DataError, match="condition: found 'classes', but these data have no class labels"
        ):
            ArraySplit(levels(), levels=17, conditional=True)

    def test_points_cannot_be_binarised(self):
        with pytest.raises(DataError, match="binarise: found 'fixed'"):
            ArraySplit(np.zeros((3, 2), np.float32), levels=None, binarise="fixed")

    def test_taking_a_batch_is_fast(self):
        split = ArraySplit(levels(5000, 255, (1, 28, 28)), levels=256)
        indices = torch.randint(5000, (64,))
        seconds = []
        for _ in range(200):
            start = time.perf_counter()
            split.take(indices)
            seconds.append(time.perf_counter() - start)
        assert min(seconds) < 2e-4


class TestBinarisation:
    grey = np.repeat(np.arange(17, dtype=np.uint8)[:, None, None, None], 40_000, axis=2)  # (17, 1, 40000, 1)

    @pytest.mark.parametrize("kind", ["fixed", "dynamic"])
    def test_probability_is_the_grey_value(self, kind):
        split = ArraySplit(self.grey, levels=17, binarise=kind)
        generator = torch.Generator().manual_seed(0)
        x = split.take(torch.arange(17), generator=generator).x
        assert set(x.unique().tolist()) == {0.0, 1.0}
        p = torch.arange(17) / 16
        error = (p * (1 - p) / 40_000).sqrt()
        assert ((x.mean(dim=(1, 2, 3)) - p).abs() <= 4.5 * error).all()  # exact at black and white

    def test_fixed_never_varies(self):
        split = ArraySplit(levels(50), levels=17, binarise="fixed")
        first = split[:].x
        generators = [None, torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)]
        assert all(torch.equal(split.take(torch.arange(50), generator=g).x, first) for g in generators)
        assert torch.equal(split[[7, 3]].x, first[[7, 3]])
        other = ArraySplit(levels(50), levels=17, binarise="fixed", seed=1)
        assert not torch.equal(other[:].x, first)

    def test_dynamic_varies_with_the_generator_alone(self):
        split = ArraySplit(levels(50), levels=17, binarise="dynamic")
        everything = torch.arange(50)
        generator = torch.Generator().manual_seed(5)
        first, second = (split.take(everything, generator=generator).x for _ in range(2))
        assert not torch.equal(first, second)
        again = split.take(everything, generator=torch.Generator().manual_seed(5)).x
        assert torch.equal(again, first)

    def test_dynamic_without_a_generator_is_the_fixed_draw(self):
        dynamic, fixed = (ArraySplit(levels(50), levels=17, binarise=b) for b in ("dynamic", "fixed"))
        assert torch.equal(dynamic[:].x, dynamic[:].x)
        assert torch.equal(dynamic[:].x, fixed[:].x)
        assert torch.equal(torch.cat([b.x for b in dynamic.batches(7)]), dynamic[:].x)

    def test_the_global_seed_is_left_alone(self):
        state = torch.get_rng_state()
        load_data("digits-dynamic").train.take(torch.arange(9), generator=torch.Generator().manual_seed(0))
        load_data("ring").train.take(torch.arange(9))
        assert torch.equal(torch.get_rng_state(), state)


class TestEndlessSplit:
    @staticmethod
    def split():
        return EndlessSplit(lambda n, g: Batch(torch.rand(n, 2, generator=g), torch.arange(n)))

    def test_has_no_length_and_never_repeats(self):
        split = self.split()
        assert split.endless
        with pytest.raises(TypeError, match="an endless source has no length"):
            len(split)
        generator = torch.Generator().manual_seed(0)
        drawn = torch.cat([split.take(torch.arange(500), generator=generator).x for _ in range(20)])
        assert len(drawn.unique(dim=0)) == 10_000

    def test_without_a_generator_an_example_is_always_the_same(self):
        split = self.split()
        together = split.take(torch.tensor([3000, 5, 1023, 1024, 5]))
        assert torch.equal(together.x[1], together.x[4])
        for place, index in enumerate([3000, 5, 1023, 1024]):
            alone = split.take(torch.tensor([index]))
            assert torch.equal(alone.x[0], together.x[place])
            assert alone.condition[0] == together.condition[place]
        with pytest.raises(IndexError, match="no last example"):
            split.take(torch.tensor([-1]))

    def test_batches_need_a_limit(self):
        split = self.split()
        batches = list(split.batches(700, limit=1500))
        assert [len(b) for b in batches] == [700, 700, 100]
        assert torch.equal(torch.cat([b.x for b in batches]), split.take(torch.arange(1500)).x)
        with pytest.raises(DataError, match="limit: found None"):
            next(split.batches(10))


class TestBatchOrder:
    @given(
        size=st.integers(1, 50),
        seed=st.integers(0, 2**32),
        counts=st.lists(st.integers(0, 70), max_size=8),
        start=st.integers(0, 200),
    )
    @settings(max_examples=60, deadline=None)
    def test_is_one_sequence_wherever_it_is_resumed(self, size, seed, counts, start):
        whole = BatchOrder(size, seed).indices(0, start + sum(counts))
        order, position = BatchOrder(size, seed), start
        for count in counts:
            part = order.indices(position, count)
            assert torch.equal(part, whole[position : position + count])
            assert torch.equal(BatchOrder(size, seed).indices(position, count), part)
            position += count
        for epoch in whole.split(size)[: len(whole) // size]:
            assert sorted(epoch.tolist()) == list(range(size))

    def test_differs_by_epoch_and_by_seed(self):
        order = BatchOrder(1000, seed=0)
        first, second = order.indices(0, 1000), order.indices(1000, 1000)
        assert not torch.equal(first, second)
        assert not torch.equal(first, BatchOrder(1000, seed=1).indices(0, 1000))
        assert torch.equal(order.indices(0, 1000), first)

    def test_empty_data_are_refused(self):
        with pytest.raises(DataError, match="size: found 0 examples, wanted at least 1"):
            BatchOrder(0, seed=0)
