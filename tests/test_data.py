"""Names and treatments, and the data sets that are always there."""

import hashlib
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from bestiary import config
from bestiary.data import (
    Classes,
    ImageSpec,
    PointSpec,
    grid_centres,
    load_data,
    ring_centres,
)
from bestiary.data.datasets import DATASETS, find
from bestiary.data.images import labelled_images
from bestiary.data.load import loader_of
from bestiary.data.specs import PairSpec, SequenceSpec, Vector, spec_from_dict, spec_to_dict
from bestiary.errors import OptionError
from bestiary.randomness import derive_seed

ALWAYS = ["digits", "digits-fixed", "digits-dynamic", "ring", "grid"]


def rows_of(split, limit=None):
    return {row.numpy().tobytes() for batch in split.batches(256, limit=limit) for row in batch.x}


class TestSpecs:
    @pytest.mark.parametrize(
        "spec",
        [
            ImageSpec(3, 8, 9, levels=17, condition=Classes(4)),
            PointSpec(2, condition=Vector(3)),
            SequenceSpec(10, 5),
            PairSpec(ImageSpec(1, 8, 8), ImageSpec(3, 8, 8)),
        ],
    )
    def test_survives_being_written_as_plain_data(self, spec):
        assert spec_from_dict(spec_to_dict(spec)) == spec

    @pytest.mark.parametrize("plain", [{}, {"kind": "Spec"}, {"kind": "ImageSpec", "colour": 1}])
    def test_what_is_no_spec_is_refused(self, plain):
        with pytest.raises(OptionError, match="spec: "):
            spec_from_dict(plain)


class TestDataSets:
    def test_sizes_are_those_of_the_table(self):
        for name in ("digits", "ring", "grid"):
            data = load_data(name)
            row = DATASETS[name]
            assert data.spec.shape == row.shape
            found = [None if s.endless else len(s) for s in (data.train, data.validation, data.test)]
            assert found == list(row.sizes)

    def test_every_row_has_a_loader_with_valid_defaults(self):
        for row in DATASETS.values():
            options = config.options(loader_of(row))
            assert ("binarise" in options) == row.binarised
            assert all(row.ways), row.name

    def test_table_needs_neither_torch_nor_numpy(self):
        code = (
            "import sys, bestiary.data, bestiary.data.datasets;"
            "print([m for m in ('torch', 'numpy', 'pydantic', 'sklearn', 'PIL') if m in sys.modules])"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.strip() == "[]"

    def test_digits_are_disjoint_and_whole(self):
        data = load_data("digits")
        parts = [rows_of(s) for s in (data.train, data.validation, data.test)]
        assert [len(p) for p in parts] == [1197, 300, 300]
        assert len(set.union(*parts)) == 1797
        for split in (data.validation, data.test):
            counts = split.labels.bincount(minlength=10)
            assert counts.min() >= 20
            assert counts.max() <= 40

    def test_digits_belong_to_their_labels(self):
        data = load_data("digits")
        x, labels = data.train[:].x.flatten(1), data.train.labels
        means = torch.stack([x[labels == k].mean(0) for k in range(10)])
        test = data.test[:].x.flatten(1)
        assert (torch.cdist(test, means).argmin(1) == data.test.labels).float().mean() > 0.85

    def test_digits_are_the_same_digits_for_ever(self):
        # The split and the fixed draw are part of what published numbers mean.
        digests = []
        for name in ("digits", "digits-fixed"):
            data = load_data(name)
            digest = hashlib.sha256()
            for split in (data.train, data.validation, data.test):
                digest.update((split[:].x * (data.spec.levels - 1)).round().to(torch.uint8).numpy())
            digests.append(digest.hexdigest()[:16])
        assert digests == ["84c023338ac6dff3", "8802e05a54c715b3"]

    def test_labels_are_there_and_the_condition_is_asked_for(self):
        plain, conditional = load_data("digits"), load_data("digits", condition="classes")
        assert plain.spec.condition is None
        assert plain.train[:5].condition is None
        assert conditional.spec.condition == Classes(10)
        assert torch.equal(conditional.train[:5].condition, plain.train.labels[:5])
        assert plain.train.labels.dtype == torch.int64
        assert plain.classes == tuple("0123456789")

    @pytest.mark.parametrize("name", [*ALWAYS, "digits condition"])
    def test_loads_again_from_what_it_says_of_itself(self, name):
        options = {"condition": "classes"} if "condition" in name else {}
        data = load_data(name.split()[0], **options)
        again = load_data(data.source, **data.options)
        assert again.fingerprint == data.fingerprint
        assert len(data.fingerprint) == 64
        assert (again.name, again.spec, again.options) == (data.name, data.spec, data.options)
        assert torch.equal(again.test[:].x, data.test[:].x)

    def test_fingerprints_tell_data_apart(self):
        made = [load_data(name).fingerprint for name in ALWAYS]
        made += [
            load_data("ring", sigma=0.03).fingerprint,
            load_data("digits", condition="classes").fingerprint,
        ]
        assert len(set(made)) == len(made)


class TestTreatments:
    def test_both_spellings_are_one(self):
        by_name, by_option = load_data("digits-fixed"), load_data("digits", binarise="fixed")
        assert by_name.name == by_option.name == "digits-fixed"
        assert by_name.source == "digits"
        assert by_name.spec == ImageSpec(1, 8, 8, levels=2)
        assert by_name.fingerprint == by_option.fingerprint
        assert torch.equal(by_name.train[:].x, by_option.train[:].x)
        assert load_data("digits-fixed", binarise="fixed").fingerprint == by_name.fingerprint

    @pytest.mark.parametrize("other", ["dynamic", "none"])
    def test_contradiction_is_refused(self, other):
        with pytest.raises(
            OptionError, match=f"binarise: found '{other}', but the name 'digits-fixed' says 'fixed'"
        ):
            load_data("digits-fixed", binarise=other)

    def test_each_split_has_noise_of_its_own(self):
        half = np.full((300, 1, 8, 8), 8, np.uint8)
        parts = [(half, np.zeros(300, np.int64))] * 3
        data = labelled_images("x", parts, levels=17, classes=("a",), binarise="fixed", condition="none")
        x = [s[:].x for s in (data.train, data.validation, data.test)]
        assert not torch.equal(x[0], x[1])
        assert not torch.equal(x[1], x[2])


class TestNames:
    @pytest.mark.parametrize(
        ("name", "near"),
        [("fashon-mnist", "fashion-mnist"), ("minst-dynamic", "mnist-dynamic"), ("Digits", "digits")],
    )
    def test_misspelt_name_says_the_nearest(self, name, near):
        with pytest.raises(OptionError, match=f"unknown data '{name}': did you mean '{near}'") as error:
            load_data(name)
        assert "\n" not in str(error.value)

    def test_points_have_no_treatment(self):
        with pytest.raises(OptionError, match="unknown data 'ring-fixed'"):
            load_data("ring-fixed")

    def test_find_reads_the_treatment(self):
        assert find("mnist-dynamic") == (DATASETS["mnist"], "dynamic")
        assert find("fashion-mnist") == (DATASETS["fashion-mnist"], None)

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            (
                "digits",
                {"binarize": "fixed"},
                "unknown option of digits 'binarize': did you mean 'binarise'?",
            ),
            ("digits", {"binarise": "fixd"}, "unknown binarise of digits 'fixd': did you mean 'fixed'?"),
            ("ring", {"sigma": 0}, "sigma: found 0, wanted a number > 0"),
            ("ring", {"modes": "many"}, "modes: found 'many', wanted a whole number ≥ 1"),
            ("grid", {"size": 0}, "size: found 0, wanted a whole number ≥ 1 or none"),
            ("folder", {}, "path: folder needs a value for it, wanted text"),
        ],
    )
    def test_misspelt_or_invalid_option(self, name, options, message):
        with pytest.raises(OptionError, match=message.replace("?", r"\?")):
            load_data(name, **options)


class TestPoints:
    def test_centres(self):
        ring = torch.view_as_complex(ring_centres())
        assert torch.allclose(ring.abs(), torch.tensor(2.0))
        angles = torch.tensor([2 * math.pi * k / 8 for k in range(8)])
        assert torch.allclose(ring, torch.polar(torch.full((8,), 2.0), angles), atol=1e-6)
        line = [-4.0, -2.0, 0.0, 2.0, 4.0]
        assert grid_centres().tolist() == [[a, b] for a in line for b in line]

    @pytest.mark.parametrize(
        ("name", "centres", "sigma"), [("ring", ring_centres(), 0.02), ("grid", grid_centres(), 0.05)]
    )
    def test_modes_are_even_and_of_the_right_width(self, name, centres, sigma):
        data = load_data(name)
        generator = torch.Generator().manual_seed(0)
        drawn = data.train.take(torch.arange(20_000), generator=generator).x
        for x in (drawn, data.validation[:].x, data.test[:].x):
            distance, mode = torch.cdist(x, centres).min(1)
            expected = len(x) / len(centres)
            assert (mode.bincount(minlength=len(centres)) - expected).abs().max() < 5 * expected**0.5
            # Squared distance is 2σ²·Exp(1): mean 2σ², standard error 2σ²/√n.
            assert abs(distance.square().mean() / (2 * sigma**2) - 1) < 5 / len(x) ** 0.5
            assert (distance > 6 * sigma).sum() == 0

    def test_options_move_the_modes(self):
        data = load_data("ring", modes=3, radius=10.0, sigma=0.001)
        distance = torch.cdist(data.test[:].x, ring_centres(3, 10.0)).min(1).values
        assert distance.max() < 0.01

    def test_splits_are_different_points_and_always_the_same(self):
        data = load_data("grid", size=5000)
        assert not data.train.endless
        parts = [rows_of(s) for s in (data.train, data.validation, data.test)]
        assert [len(p) for p in parts] == [5000, 10_000, 10_000]
        assert len(set.union(*parts)) == 25_000
        assert torch.equal(load_data("grid").test[:].x, data.test[:].x)

    def test_endless_training_never_draws_what_is_held_out(self):
        data = load_data("ring")
        held_out = rows_of(data.validation) | rows_of(data.test)
        assert not rows_of(data.train, limit=20_000) & held_out
        for seed, number in itertools.product(range(3), range(4)):  # as the training loop seeds its draws
            generator = torch.Generator().manual_seed(derive_seed(seed, number))
            batch = data.train.take(torch.arange(10_000), generator=generator).x
            assert not {row.numpy().tobytes() for row in batch} & held_out


def test_a_name_wins_over_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert load_data("digits").source == "digits"
