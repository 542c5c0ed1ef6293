"""The cache of a decoded folder: used again, made anew when it must be, never half there."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from bestiary.data import decoded, load_data
from bestiary.data.decode import decode
from bestiary.errors import DataError
from pictures import fill


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("BESTIARY_CACHE", str(folder))
    return folder


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


class TestCache:
    @pytest.fixture
    def decodings(self, monkeypatch):
        """Names of the files that are decoded from now on."""
        names = []

        def counted(path, **options):
            names.append(path.name)
            return decode(path, **options)

        monkeypatch.setattr(decoded, "decode", counted)
        return names

    def test_second_load_decodes_nothing(self, root, decodings):
        fill(root, 10)
        (root / "bad.png").write_bytes(b"bad")
        first = load_data(root)
        assert len(decodings) == 10
        second = load_data(root, seed=1, condition="none", validation=0.2)
        assert len(decodings) == 10
        assert second.notes == first.notes
        assert load_data(root).fingerprint == first.fingerprint

    def test_another_option_is_another_cache(self, root, decodings):
        fill(root, 10)
        for options in ({}, {"size": 4}, {"size": 4, "fit": "crop"}, {"channels": 1}):
            load_data(root, **options)
        assert len(decodings) == 40
        load_data(root, size=4)
        assert len(decodings) == 40

    def test_who_comes_at_the_same_time_waits(self, root, decodings):
        fill(root, 30)
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(load_data, [root] * 4))
        assert len(decodings) == 30
        assert len({data.fingerprint for data in made}) == 1

    @pytest.mark.parametrize("change", ["touch", "add", "remove", "rename"])
    def test_a_changed_folder_is_decoded_anew(self, root, cache, decodings, change):
        fill(root, 10)
        before = load_data(root)
        if change == "touch":
            os.utime(root / "000.png", ns=(1, 1))
        elif change == "add":
            fill(root, 1, first=50)
        elif change == "remove":
            (root / "000.png").unlink()
        else:
            (root / "000.png").rename(root / "zzz.png")
        after = load_data(root)
        assert len(decodings) == 10 + {"add": 11, "remove": 9}.get(change, 10)
        assert (after.fingerprint == before.fingerprint) == (change == "touch")
        assert len(list(cache.rglob("*.npy"))) == 1  # the old one is replaced

    @pytest.mark.parametrize(
        "damage",
        [
            lambda array, index: array.unlink(),
            lambda array, index: index.unlink(),
            lambda array, index: os.truncate(array, 300),
            lambda array, index: array.write_bytes(bytes(array.stat().st_size)),
            lambda array, index: array.write_bytes(array.read_bytes()[:-9] + bytes(9)),
            lambda array, index: index.write_bytes(b""),
            lambda array, index: index.write_bytes(index.read_bytes()[:-5]),
            lambda array, index: index.write_bytes(index.read_bytes().replace(b"001.png", b"002.png")),
            lambda array, index: index.write_bytes(b"\xff\xfe\n\x00"),
        ],
    )
    def test_a_damaged_cache_is_made_anew(self, root, cache, decodings, damage):
        fill(root, 10)
        before = load_data(root)
        (array,), (index,) = cache.rglob("*.npy"), cache.rglob("*.index")
        wanted = before.train[:].x.clone()
        del before
        damage(array, index)
        after = load_data(root)
        assert len(decodings) == 20
        assert torch.equal(after.train[:].x, wanted)

    def test_interrupted_decoding_leaves_nothing_that_is_taken(self, root, cache, monkeypatch, decodings):
        fill(root, 10)

        def interrupted(path, **options):
            if path.name == "007.png":
                raise KeyboardInterrupt
            return decode(path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(decoded, "decode", interrupted)
            with pytest.raises(KeyboardInterrupt):
                load_data(root)
        assert [p for p in cache.rglob("*") if p.suffix in (".npy", ".index", ".part")] == []
        assert len(load_data(root).train) == 8
        assert len(decodings) == 10

    def test_what_is_mapped_survives_a_new_cache(self, root):
        fill(root, 10)
        before = load_data(root)
        wanted = before.train[:].x.clone()
        fill(root, 5, first=50)
        load_data(root)
        assert torch.equal(before.train[:].x, wanted)

    def test_images_stay_on_the_disk(self, root):
        fill(root, 10)
        data = load_data(root)
        array = data.train._x
        while array.base is not None and not isinstance(array, np.memmap):
            array = array.base
        assert isinstance(array, np.memmap)

    def test_a_cache_that_cannot_be_written_is_told(self, root, tmp_path, monkeypatch):
        fill(root, 5)
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("BESTIARY_CACHE", str(tmp_path / "file"))
        with pytest.raises(DataError, match="BESTIARY_CACHE: cannot write") as error:
            load_data(root)
        assert "\n" not in str(error.value)

    def test_a_full_disk_is_told(self, root, cache, monkeypatch):
        fill(root, 5)

        def full(fd):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match="No space left on device"):
            load_data(root)
        assert list(cache.rglob("*.npy")) == []

    def test_a_long_wait_says_what_it_is(self, root, caplog):
        fill(root, 5)
        with caplog.at_level(logging.INFO, logger="bestiary.data"):
            load_data(root)
            load_data(root)
        assert [r.message.split(",")[0] for r in caplog.records] == [f"decoding 5 images of {root} once"]
