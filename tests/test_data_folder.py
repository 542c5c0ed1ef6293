"""A folder of images as a data set: what is taken, and what is left out and named."""

import json
import os
import struct
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from bestiary.data import Classes, ImageSpec, load_data
from bestiary.data.folder import split_rows
from bestiary.errors import DataError, OptionError
from pictures import fill, noise


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


def all_rows(data):
    return [{x.numpy().tobytes() for x in s[:].x} for s in (data.train, data.validation, data.test)]


def png(width, height, pixels=b""):
    """A PNG whose header claims a size, whatever its pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


class TestSplits:
    def test_disjoint_whole_and_of_the_asked_size(self, root):
        fill(root, 50)
        data = load_data(root)
        assert data.spec == ImageSpec(3, 8, 8)
        assert [len(s) for s in (data.train, data.validation, data.test)] == [40, 5, 5]
        assert len(set.union(*all_rows(data))) == 50
        levels = {Image.open(p).tobytes() for p in root.iterdir()}
        taken = {
            (x * 255).round().to(torch.uint8).permute(1, 2, 0).numpy().tobytes() for x in data.train[:].x
        }
        assert taken <= levels

    def test_seed_and_shares(self, root):
        fill(root, 30)
        data = load_data(root, validation=0.2, test=0.3, seed=1)
        assert [len(s) for s in (data.train, data.validation, data.test)] == [15, 6, 9]
        again, other = (load_data(root, validation=0.2, test=0.3, seed=s) for s in (1, 2))
        assert torch.equal(again.test[:].x, data.test[:].x)
        assert all_rows(other)[2] != all_rows(data)[2]
        assert len({data.fingerprint, other.fingerprint}) == 2

    def test_the_same_picture_lies_in_one_split(self, root):
        for copy in ("a", "b", "c"):
            fill(root / copy, 30)
        for i in range(30):  # the same pixels in another format
            Image.open(root / "a" / f"{i:03}.png").save(root / f"{i}.bmp")
        data = load_data(root)
        assert sum(map(len, (data.train, data.validation, data.test))) == 120
        assert [len(s) for s in (data.validation, data.test)] == [12, 12]
        train, validation, test = all_rows(data)
        assert not train & validation
        assert not train & test
        assert not validation & test

    def test_a_crowd_of_twins_goes_to_train(self):
        twins = np.array([0] * 90 + list(range(90, 100)))
        train, validation, test = split_rows(twins, 0.1, 0.1, seed=0)
        assert set(range(90)) <= set(train)
        assert sorted([*train, *validation, *test]) == list(range(100))
        assert (len(train), len(validation), len(test)) == (90, 5, 5)

    @pytest.mark.parametrize("distinct", [3, 4, 5, 9, 40])
    @pytest.mark.parametrize("copies", [1, 2, 7])
    def test_every_split_has_something(self, distinct, copies):
        twins = np.repeat(np.arange(0, distinct * copies, copies), copies)
        parts = split_rows(twins, 0.1, 0.1, seed=distinct)
        assert sorted(np.concatenate(parts)) == list(range(len(twins)))
        for part in parts:
            values, counts = np.unique(twins[part], return_counts=True)
            assert len(values) >= 1
            assert (counts == copies).all()
        share = len(twins) / 10
        assert all(abs(len(part) - share) <= max(copies, 1) for part in parts[1:])

    @pytest.mark.parametrize("shares", [(0.9, 0.05), (0.05, 0.9), (0.5, 0.49), (0.01, 0.01)])
    def test_no_share_empties_a_split(self, shares):
        assert [len(part) for part in split_rows(np.arange(3), *shares, seed=0)] == [1, 1, 1]

    def test_every_row_is_as_likely_held_out(self):
        held_out = np.zeros(50)
        for seed in range(300):
            held_out[split_rows(np.arange(50), 0.2, 0.1, seed)[1]] += 1
        assert abs(held_out.mean() - 60) < 1e-9
        assert abs(held_out - 60).max() < 5 * (300 * 0.2 * 0.8) ** 0.5

    def test_order_within_a_split_is_random(self, root):
        fill(root / "cats", 100)
        fill(root / "dogs", 100, first=100)
        labels = load_data(root).train.labels
        assert 20 < labels[:80].sum() < 60

    @pytest.mark.parametrize("n", [1, 2])
    def test_too_few(self, root, n):
        fill(root, n)
        with pytest.raises(DataError, match=f"path: found {n} different images among {n}, wanted at least 3"):
            load_data(root)

    def test_three_are_enough(self, root):
        fill(root, 3)
        assert [len(s) for s in all_rows(load_data(root))] == [1, 1, 1]

    def test_only_copies_are_too_few(self, root):
        for i in range(9):
            noise(0, 8, 8, 3).save(root / f"{i}.png")
        with pytest.raises(DataError, match="found 1 different images among 9"):
            load_data(root)

    def test_shares_must_leave_something(self, root):
        fill(root, 10)
        with pytest.raises(OptionError, match=r"validation, test: found 0.5 and 0.5, wanted a sum < 1"):
            load_data(root, validation=0.5, test=0.5)


class TestClasses:
    def test_sub_folders_are_classes(self, root):
        for k, name in enumerate(("dog", "ant", "cat")):
            fill(root / name / "deep", 10, shape=(4, 4), first=10 * k)
        data = load_data(root, condition="classes")
        assert data.classes == ("ant", "cat", "dog")
        assert data.spec == ImageSpec(1, 4, 4, condition=Classes(3))
        everything = {}
        for split in (data.train, data.validation, data.test):
            batch = split[:]
            assert torch.equal(batch.condition, split.labels)
            everything.update(
                {
                    x.mul(255).round().byte().numpy().tobytes(): k
                    for x, k in zip(batch.x, split.labels, strict=True)
                }
            )
        for path in root.rglob("*.png"):
            assert data.classes[everything[Image.open(path).tobytes()]] == path.parts[-3]
        plain = load_data(root)
        assert plain.spec.condition is None
        assert plain.train[:3].condition is None
        assert torch.equal(plain.train.labels, data.train.labels)

    def test_a_class_of_broken_files_is_none(self, root):
        for k, name in enumerate("abc"):
            fill(root / name, 5, first=5 * k)
        for path in (root / "b").iterdir():
            path.write_bytes(b"broken")
        assert load_data(root).classes == ("a", "c")

    @pytest.mark.parametrize("places", [(".", "."), (".", "a"), ("a", "a")])
    def test_no_classes(self, root, places):
        for k, place in enumerate(places):
            fill(root / place, 5, first=5 * k)
        assert load_data(root).classes is None
        assert load_data(root).train.labels is None
        with pytest.raises(
            DataError, match=r"condition: found 'classes', but '.*' has no sub-folders as classes"
        ):
            load_data(root, condition="classes")

    def test_folders_of_splits_are_no_classes(self, root):
        for k, name in enumerate(("train", "test")):
            fill(root / name, 5, first=5 * k)
        data = load_data(root)
        assert data.classes is None
        assert data.notes == ("the sub-folders test, train are no classes: all images are split anew",)


class TestNames:
    def test_every_spelling(self, root, monkeypatch):
        fill(root, 10)
        monkeypatch.chdir(root.parent)
        spellings = [root, str(root), "pictures", "./pictures", "pictures/", "cache/../pictures"]
        made = [load_data(s) for s in spellings] + [load_data("folder", path="pictures")]
        assert {d.name for d in made} == {"folder:pictures"}
        assert len({d.fingerprint for d in made}) == 1
        assert made[2].options["path"] == str(root)
        assert made[2].source == "folder"

    def test_loads_again_from_what_it_says_of_itself(self, root):
        fill(root, 10, shape=(9, 7, 3))
        data = load_data(root, size=8, fit="crop", channels=1, seed=3)
        again = load_data(data.source, **json.loads(json.dumps(data.options)))
        assert again.fingerprint == data.fingerprint
        assert torch.equal(again.train[:].x, data.train[:].x)

    def test_moved_folder_is_the_same_data(self, root):
        fill(root, 10)
        before = load_data(root).fingerprint
        root.rename(root.with_name("pictures2"))
        assert load_data(root.with_name("pictures2")).fingerprint == before

    def test_two_paths_are_refused(self, root):
        with pytest.raises(OptionError, match="path: found '/elsewhere', but the name"):
            load_data(root, path="/elsewhere")

    @pytest.mark.parametrize("name", ["no/such/folder", "/nowhere", "./x"])
    def test_absent(self, name):
        with pytest.raises(DataError, match=r"path: found nothing at '.*', wanted a folder of images"):
            load_data(name)

    def test_a_file(self, root):
        fill(root, 1)
        with pytest.raises(DataError, match="path: found a file at"):
            load_data(root / "000.png")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 0}, "size: found 0, wanted a whole number ≥ 1 and ≤ 4096 or none"),
            ({"size": "big"}, "size: found 'big'"),
            ({"fit": "croop"}, "unknown fit of folder 'croop': did you mean 'crop'"),
            ({"channels": 4}, "channels: found 4, wanted one of auto, 1, 3"),
            ({"binarise": "fixed"}, "unknown option of folder 'binarise'"),
        ],
    )
    def test_invalid_option(self, root, options, message):
        with pytest.raises(OptionError, match=message):
            load_data(root, **options)


class TestBadFiles:
    def test_one_broken_among_good_ones_is_named(self, root):
        fill(root, 10)
        whole = (root / "003.png").read_bytes()
        (root / "003.png").write_bytes(whole[: len(whole) // 2])
        data = load_data(root)
        assert sum(len(s) for s in all_rows(data)) == 9
        assert len(data.notes) == 1
        assert data.notes[0].startswith("left out '003.png': it is truncated or damaged (")

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("text.png", b"I am no image", "it is no image of a known format"),
            ("empty.jpg", b"", "it is no image of a known format"),
            ("bomb.png", png(100_000, 100_000), "it has far too many pixels, wanted at most 64 million"),
            ("large.png", png(10_000, 10_000), "it has 10000×10000 pixels, wanted at most 64 million"),
            ("nothing.png", png(0, 8), "it is "),
            (
                "script.png",
                b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
                "it is no image of a known format",
            ),
        ],
    )
    def test_bad_files_are_left_out(self, root, name, content, reason):
        fill(root, 5, shape=(8, 8))
        (root / name).write_bytes(content)
        start = time.process_time()
        data = load_data(root)
        assert time.process_time() - start < 1
        assert [note[: len(f"left out '{name}': {reason}")] for note in data.notes] == [
            f"left out '{name}': {reason}"
        ]
        assert "\n" not in data.notes[0]

    def test_a_truncated_jpeg_is_left_out(self, root):
        fill(root, 5, shape=(64, 64, 3))
        noise(1, 64, 64, 3).save(root / "x.jpg")
        whole = (root / "x.jpg").read_bytes()
        (root / "x.jpg").write_bytes(whole[: len(whole) - 500])
        assert load_data(root).notes[0].startswith("left out 'x.jpg': it is truncated or damaged")

    def test_a_bomb_hidden_in_the_pixels_is_cut_short(self, root):
        fill(root, 5, shape=(8, 8))
        (root / "x.png").write_bytes(png(8, 8, bytes(50_000_000)))  # 72 bytes are wanted
        start = time.process_time()
        assert sum(len(s) for s in all_rows(load_data(root))) >= 5
        assert time.process_time() - start < 1

    def test_the_list_of_notes_is_capped(self, root):
        fill(root, 5)
        for i in range(30):
            (root / f"bad{i:02}.png").write_bytes(b"bad")
        notes = load_data(root).notes
        assert len(notes) == 21
        assert notes[-1] == "left out 10 more files that cannot be read"

    def test_other_files_are_counted_once(self, root):
        fill(root, 5)
        for name in ("README.txt", "labels.csv", ".hidden.png", "Makefile"):
            (root / name).write_text("text")
        (root / ".git").mkdir()
        fill(root / ".git", 3)
        assert load_data(root).notes == ("ignored 3 files that are no images by their names",)

    def test_empty(self, root):
        with pytest.raises(
            DataError, match=r"path: found no images in '.*' \(and 0 other files\), wanted"
        ) as error:
            load_data(root)
        assert "\n" not in str(error.value)

    def test_nothing_readable(self, root, cache):
        for name in ("a.png", "b.jpg"):
            (root / name).write_bytes(b"bad")
        with pytest.raises(
            DataError,
            match=r"none of the 2 image files in '.*' can be read, the first is 'a.png': it is no image",
        ):
            load_data(root)
        assert list(cache.rglob("*.npy")) == []

    def test_links_in_circles(self, root):
        fill(root / "a", 5)
        fill(root / "b", 5, first=5)
        (root / "a" / "up").symlink_to(root)
        (root / "0-alias-of-b").symlink_to(root / "b")
        (root / "a" / "b").symlink_to(root / "b")
        (root / "b" / "a").symlink_to(root / "a")
        (root / "broken.png").symlink_to(root / "nowhere")
        (root / "self.png").symlink_to("self.png")
        data = load_data(root)
        assert sum(map(len, (data.train, data.validation, data.test))) == 10
        assert data.classes == ("a", "b")
        assert [n.split(":")[0] for n in data.notes] == ["left out 'broken.png'", "left out 'self.png'"]

    def test_a_link_deep_into_the_tree_takes_nothing_away(self, root):
        fill(root / "b" / "deep" / "er", 5)
        fill(root / "c", 5, first=5)
        (root / "a").symlink_to(root / "b" / "deep" / "er")
        assert load_data(root).classes == ("b", "c")

    def test_a_linked_folder_is_followed(self, root, tmp_path):
        fill(tmp_path / "elsewhere", 5)
        (root / "link").symlink_to(tmp_path / "elsewhere")
        assert len(load_data(root).train) == 3

    def test_pipe_is_not_opened(self, root):
        fill(root, 5)
        os.mkfifo(root / "pipe.png")
        assert load_data(root).notes == ("left out 'pipe.png': it is no regular file",)

    def test_strange_names(self, root):
        fill(root, 5)
        for name in (b"\xff\xfe.png", b"new\nline.png", "größe 画像.png".encode()):
            noise(len(name), 8, 8, 3).save(os.fsdecode(os.fsencode(root) + b"/x.png"))
            os.rename(os.fsencode(root) + b"/x.png", os.fsencode(root) + b"/" + name)  # noqa: PTH104
        (root / os.fsdecode(b"bad\xff\n.png")).write_bytes(b"bad")
        data = load_data(root)
        assert sum(map(len, (data.train, data.validation, data.test))) == 8
        data.notes[0].encode()
        assert "\n" not in data.notes[0]
        assert load_data(root).fingerprint == data.fingerprint


class TestShapes:
    def test_sizes_must_agree_or_be_given(self, root):
        fill(root, 5, shape=(8, 6, 3))
        noise(9, 5, 7, 3).save(root / "z.png")
        with pytest.raises(
            DataError, match=r"size: found images of 6×8 \('000.png'\) and 7×5 \('z.png'\), wanted one"
        ):
            load_data(root)
        assert load_data(root, size=4).spec == ImageSpec(3, 4, 4)

    def test_channels(self, root):
        fill(root, 5, shape=(8, 8))
        assert load_data(root).spec.channels == 1
        assert load_data(root, channels=3).spec.channels == 3
        noise(9, 8, 8, 3).save(root / "z.png")
        assert load_data(root).spec.channels == 3
        assert load_data(root, channels=1).spec.channels == 1
