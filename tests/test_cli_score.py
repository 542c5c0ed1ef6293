"""`bestiary score`: files in, the whole table out, and a line for whatever is wrong with them."""

import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from bestiary.cli.main import main
from bestiary.data.sources import open_source
from bestiary.errors import DataError
from bestiary.metrics import frechet_distance, kernel_distance, score_features
from bestiary.metrics.manifold import precision_recall_density_coverage
from pictures import fill


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders and arrays of the same small pictures, and of pictures with something wrong."""
    folder = tmp_path_factory.mktemp("score")
    fill(folder / "real", 30, (8, 8))
    fill(folder / "fake", 30, (8, 8), first=100)
    fill(folder / "bigger", 3, (8, 9))
    fill(folder / "colour", 3, (8, 8, 3))
    fill(folder / "two sizes", 25, (8, 8))
    fill(folder / "two sizes", 2, (8, 9), first=50)
    (folder / "empty").mkdir()
    (folder / "text").mkdir()
    (folder / "text" / "a.png").write_text("no picture")
    (folder / "flat").mkdir()
    for i in range(9):
        Image.new("L", (8, 8), 20 * i).save(folder / "flat" / f"{i}.png")
    images = read(folder / "fake")
    random = np.random.default_rng(0)
    arrays = {
        "nhw.npy": images,
        "nhwc.npy": images[..., None],
        "nchw.npy": images[:, None],
        "float.npy": (images / 255).astype(np.float32),
        "features.npy": random.normal(size=(300, 5)).astype(np.float32),
        "other.npy": random.normal(size=(300, 5)) + 0.1,
        "wide.npy": random.normal(size=(300, 6)),
        "nan.npy": np.full((20, 8, 8), np.nan),
        "nan features.npy": np.full((20, 5), np.nan),
        "signed.npy": images / 127.5 - 1,
        "levels.npy": images.astype(np.float64),
        "binary.npy": images // 128,
        "int.npy": images.astype(np.int64),
        "alpha.npy": np.zeros((20, 8, 8, 4), dtype=np.uint8),
        "one.npy": np.zeros(20),
        "none.npy": np.zeros((0, 8, 8)),
        "text.npy": np.array([["a", "b"]]),
        "objects.npy": np.array([{"a": 1}, None], dtype=object),
    }
    for name, array in arrays.items():
        np.save(folder / name, array)
    np.savez_compressed(folder / "samples.npz", samples=images[:, None], labels=np.zeros(30))
    np.savez(folder / "several.npz", a=images, b=images)
    (folder / "damaged.npz").write_bytes((folder / "samples.npz").read_bytes()[:300])
    (folder / "garbage.npy").write_bytes(b"not an array")
    (folder / "file.txt").write_text("not an array")
    return folder


def read(folder):
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())])


@pytest.fixture
def score(place, capsys, monkeypatch):
    """Runs `bestiary score` among the files: (exit code, stdout, stderr)."""
    monkeypatch.chdir(place)

    def run(real, fake, *options):
        capsys.readouterr()
        code = main(["score", "--real", real, "--fake", fake, *options])
        return code, *capsys.readouterr()

    return run


def scores(answer):
    code, out, err = answer
    assert code == 0, err
    return json.loads(out)["scores"]


PIXELS = ("--embedding", "pixels", "--json")


class TestTable:
    def test_the_numbers_are_those_of_the_metrics(self, score, place):
        found = scores(score("real", "fake", *PIXELS))
        real, fake = (torch.from_numpy(read(place / f)).float().flatten(1) / 255 for f in ("real", "fake"))
        frechet = frechet_distance(real=real, fake=fake)
        assert found["frechet"]["value"] == pytest.approx(frechet.value, rel=1e-5)
        assert found["frechet"]["error"] == pytest.approx(frechet.error, rel=1e-5)
        assert found["kernel"]["value"] == pytest.approx(
            kernel_distance(real=real, fake=fake).value, abs=1e-6
        )
        pr, dc = precision_recall_density_coverage(real=real, fake=fake)
        expected = (pr.precision, pr.recall, dc.density, dc.coverage)
        assert [found[k]["value"] for k in ("precision", "recall", "density", "coverage")] == list(expected)
        assert found["frechet"]["protocol"] == "frechet[pixels, n=30]"

    def test_a_row_for_each_score_with_its_error_its_sizes_and_its_name(self, score):
        code, out, err = score("features.npy", "other.npy", "-n", "250")
        assert code == 0
        heading, *rows = out.splitlines()
        assert heading.split() == ["score", "value", "better", "judges", "protocol"]
        assert [row.split()[0] for row in rows] == [
            *("frechet", "frechet_extrapolated", "kernel", "prd_f8", "prd_f1_8"),
            *("precision", "recall", "density", "coverage"),
        ]
        assert all("±" in row and "n=250]" in row for row in rows)
        assert "no inception-score: it needs a network with ImageNet's classes" in err
        assert "note: real: a random 250 of 300" in err
        assert "computing kernel: 1 of 5" in err

    def test_progress_and_notes_are_not_on_standard_output(self, score):
        _, out, err = score("real", "fake", *PIXELS, "--metrics", "kernel")
        assert list(json.loads(out)["scores"]) == ["kernel"]
        assert "embedding real: 30 of 30" in err
        assert "note: kernel: unbiased, but noisy at 30 examples" in err

    def test_the_inception_score_comes_with_imagenet_classes(self, score):
        code, out, err = score("real", "fake", "--metrics", "inception-score", "--json")
        found = scores((code, out, err))["inception_score"]
        assert 1 < found["value"] < 1000
        assert (found["n_real"], found["n_fake"]) == (0, 30)
        assert found["protocol"].startswith("inception-score[efficientnet-lite0 96px bilinear, ")
        assert "inception-score: too low at 30 samples" in err

    def test_real_and_fake_are_not_swapped(self):
        generator = torch.Generator().manual_seed(0)
        real = torch.randn(400, 2, generator=generator) + 6 * torch.randint(
            0, 2, (400, 1), generator=generator
        )
        fake = torch.randn(400, 2, generator=generator)  # one of two modes: precise, and half the recall
        found = score_features(real=real, fake=fake, metrics=("prd", "manifold")).scores
        assert found["precision"].value > 0.95
        assert found["recall"].value < 0.7
        assert found["coverage"].value < 0.7
        assert found["prd_f1_8"].value > 0.95 > 0.7 > found["prd_f8"].value

    def test_the_same_seed_gives_the_same_table(self, score):
        options = (*PIXELS, "--metrics", "kernel", "-n", "25")
        runs = [scores(score("real", "fake", *options, "--seed", seed)) for seed in ("1", "1", "2")]
        assert runs[0] == runs[1] != runs[2]

    def test_fid_is_the_name_on_its_own_network_only(self):
        features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
        found = score_features(
            real=features[:20], fake=features[20:], fid_names=True, metrics=("frechet", "kernel")
        )
        assert list(found.scores) == ["fid", "fid_extrapolated", "kid"]

    def test_too_few_samples_are_told_of_in_words(self):
        features = torch.randn(3000, 40, generator=torch.Generator().manual_seed(0))
        few = score_features(real=features[:30], fake=features[30:50], metrics=("frechet", "kernel", "prd"))
        words = " ".join(few.notes)
        for part in (
            "frechet: 20 examples cannot fill a covariance of 40 dimensions",
            "kernel: unbiased, but noisy at 20 examples, take 2,000 or more",
            "prd: 20 examples leave few in each of 20 clusters",
            "the sets differ in size (30, 20)",
        ):
            assert part in words
        more = score_features(real=features[:1500], fake=features[1500:], metrics=("frechet",))
        assert more.notes == (
            "frechet: its bias at 1,500 examples is not small, published values take 10,000 or more: "
            "compare values of the same n only",
        )
        least = score_features(real=features[:6], fake=features[6:12], metrics=("frechet", "manifold"))
        assert list(least.scores) == ["frechet"]
        assert least.unavailable == {"manifold": "it needs at least 7 examples of each"}


class TestFiles:
    @pytest.mark.parametrize("file", ["nhw.npy", "nhwc.npy", "nchw.npy", "float.npy", "samples.npz"])
    def test_a_folder_and_its_arrays_score_the_same(self, score, file):
        found, expected = (scores(score("real", f, *PIXELS, "--metrics", "frechet")) for f in (file, "fake"))
        assert found["frechet"]["value"] == pytest.approx(expected["frechet"]["value"], rel=1e-6)

    def test_images_are_decoded_ahead_in_the_background_and_never_all_at_once(self, place, monkeypatch):
        threads = []

        def counted(*arguments, **options):
            threads.append(threading.current_thread())
            return decode(*arguments, **options)

        from bestiary.data.sources import decode

        monkeypatch.setattr("bestiary.data.sources.decode", counted)
        monkeypatch.setattr("os.cpu_count", lambda: 1)
        batches = open_source(place / "real", "real").batches(5)
        assert next(batches).shape == (5, 1, 8, 8)
        assert 5 <= len(threads) <= 10
        assert threading.main_thread() not in threads
        assert sum(map(len, batches)) == 25

    def test_order_and_levels_are_the_files(self, place):
        found = torch.cat(list(open_source(place / "fake", "fake").batches(7)))
        assert torch.equal((255 * found[:, 0]).round().byte(), torch.from_numpy(read(place / "fake")))

    def test_a_random_part_is_another_for_each_seed(self, place):
        parts = [
            torch.cat(list(open_source(place / "real", "real", limit=10, seed=s).batches(4)))
            for s in (1, 1, 2)
        ]
        assert len(parts[0]) == 10
        assert torch.equal(parts[0], parts[1])
        assert not torch.equal(parts[0], parts[2])

    def test_grey_and_coloured_images_go_together(self, tmp_path):
        fill(tmp_path, 3, (8, 8))
        fill(tmp_path, 1, (8, 8, 3), first=9)
        (images,) = open_source(tmp_path, "real").batches(4)
        assert images.shape == (4, 3, 8, 8)
        assert torch.equal(images[0, 0], images[0, 1])
        assert not torch.equal(images[3, 0], images[3, 1])

    def test_what_is_left_out_is_told(self, score, tmp_path):
        fill(tmp_path, 12, (8, 8))
        (tmp_path / "005.png").write_bytes(b"damaged")
        Image.new("L", (8, 8), 7).save(tmp_path / "006.png")
        code, out, err = score("real", str(tmp_path), *PIXELS, "--metrics", "kernel")
        assert scores((code, out, err))["kernel"]["n_fake"] == 11
        assert "note: fake: left out '005.png': it is no image of a known format" in err
        assert "note: fake: 1 of 11 images have a single colour" in err

    def test_the_same_files_are_noticed(self, score):
        code, _, err = score("real", "real", *PIXELS, "--metrics", "kernel")
        assert code == 0
        assert "note: real and fake are the same files" in err

    def test_size_brings_folders_together(self, score):
        found = scores(score("real", "two sizes", *PIXELS, "--metrics", "frechet", "--size", "4"))
        assert found["frechet"]["n_fake"] == 27

    def test_big_endian_and_half_floats_are_read(self, place, tmp_path):
        features = np.load(place / "features.npy")
        for dtype in (">f8", "<f2"):
            np.save(tmp_path / "x.npy", features.astype(dtype))
            read = open_source(tmp_path / "x.npy", "real").values
            assert np.allclose(torch.from_numpy(read), features, atol=1e-2)


MISTAKES = {
    (
        "real",
        "nowhere",
    ): "fake: found nothing at 'nowhere', wanted a folder of images, or an .npy or .npz file",
    ("nowhere.npy", "fake"): "real: found nothing at 'nowhere.npy'",
    ("file.txt", "fake"): "real: found a file at 'file.txt', wanted a folder",
    ("empty", "fake"): "real: found no images in 'empty'",
    ("text", "fake"): "real: none of the 1 image files in 'text' can be read, the first is 'a.png': it is no",
    (
        "real",
        "bigger",
    ): "fake: found images of 9×8×1, but the first real ones are 8×8×1 (width×height×channels)",
    ("real", "two sizes"): "fake: found images of 8×8 ('000.png') and 9×8 ('050.png'), wanted one size: give",
    ("real", "colour"): "fake: found images of 8×8×3, but the first real ones are 8×8×1",
    ("real", "flat"): "fake: found a single colour in each of the 9 images of 'flat', wanted pictures",
    ("real", "features.npy"): "fake: found features, but real has images: wanted the same kind in both",
    ("features.npy", "wide.npy"): "embedding: found 'pixels', but real and fake are features already",
    ("real", "nan.npy"): "fake: found NaN or infinite values in 'nan.npy', wanted floats in [0, 1]",
    ("nan features.npy", "fake"): "real: found NaN or infinite features in 'nan features.npy'",
    (
        "real",
        "signed.npy",
    ): "fake: found values from -1 to 1 in 'signed.npy', wanted floats in [0, 1]: rescale",
    ("real", "levels.npy"): "in 'levels.npy', wanted floats in [0, 1]: divide them by 255",
    ("real", "binary.npy"): "fake: found no level above 1 in 'binary.npy', wanted uint8 levels 0 to 255",
    ("real", "int.npy"): "fake: found int64 images in 'int.npy', wanted uint8 levels 0 to 255 or floats",
    ("real", "alpha.npy"): "fake: found shape (20, 8, 8, 4) in 'alpha.npy', wanted images (n, h, w)",
    ("real", "one.npy"): "fake: found shape (20,) in 'one.npy', wanted images",
    ("real", "none.npy"): "fake: found no values in 'none.npy', whose shape is (0, 8, 8)",
    ("text.npy", "fake"): "real: found <U1 in 'text.npy', wanted numbers",
    ("objects.npy", "fake"): "real: cannot read 'objects.npy': it is no array of numbers (Python objects are",
    ("garbage.npy", "fake"): "real: cannot read 'garbage.npy': it is no array of numbers",
    ("damaged.npz", "fake"): "real: cannot read 'damaged.npz': ",
    ("several.npz", "fake"): "real: found the arrays a, b in 'several.npz', wanted one, or one of them named",
}


@pytest.mark.parametrize("files", MISTAKES)
def test_a_mistake_in_the_files_gives_one_line_and_exit_code_2(score, files):
    code, out, err = score(*files, "--embedding", "pixels")
    assert (code, out) == (2, "")
    line = err.splitlines()[-1]
    assert line.startswith("bestiary: ")
    assert MISTAKES[files] in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metrics", "frechett"], "unknown metric 'frechett': did you mean 'frechet'?"),
        (["--embedding", "pixel"], "unknown embedding 'pixel': did you mean 'pixels'?"),
        (
            ["--embedding", "classifier"],
            "'classifier' needs data with class labels: use 'efficientnet-lite0'",
        ),
        (
            ["--metrics", "kernel,fid", "--embedding", "pixels"],
            "metrics: found 'fid' with the embedding 'pixels', wanted 'inception-2015-12-05' (or 'frechet', ",
        ),
        (["-n", "1"], "-n: found '1', wanted a whole number ≥ 2"),
        (["--device", "cdua"], "device: found 'cdua'"),
        (["--size", "0"], "--size: found '0', wanted a whole number ≥ 1"),
    ],
)
def test_a_mistake_in_the_options_gives_one_line_and_exit_code_2(score, options, message):
    code, out, err = score("real", "fake", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_features_that_do_not_fit_each_other(score):
    code, _, err = score("features.npy", "wide.npy")
    assert code == 2
    assert err == "bestiary: fake: found 6 features an example, wanted 5 as in real\n"
    code, _, err = score("features.npy", "other.npy", "--metrics", "fid")
    assert code == 2
    assert "ask for frechet and kernel in place of fid and kid" in err


def test_an_array_is_not_resized(place):
    with pytest.raises(
        DataError, match=r"size: found 4, but the images in .* are 8×8, and only those of folders"
    ):
        open_source(place / "nhw.npy", "real", size=4)
