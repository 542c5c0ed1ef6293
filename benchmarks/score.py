"""What `bestiary score` costs, against inference in the style of pytorch-fid on the same network, in one run.

    python benchmarks/score.py -n 10000 --out benchmarks/score.json

Two folders of n PNGs each are made of Fashion-MNIST's training and test images. One side is the whole
command: decoding, embedding, every metric of the table. The other computes the Fréchet distance alone, as it
is usually done: images are decoded one by one in the main process, go through the same EfficientNet-Lite0 in
batches of 50 (float32, batch normalisation as trained, channels first), and scipy takes the square root of
the product of covariances. Both run in this process, one after the other, after the network was loaded once.
"""

import argparse
import contextlib
import io
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
import torch
from PIL import Image
from torch.nn import functional as F

from bestiary.cli.main import main as bestiary
from bestiary.data import load_data
from bestiary.metrics.embeddings.efficientnet import SIDE, WEIGHTS, EfficientNetLite0, efficientnet_lite0
from bestiary.metrics.embeddings.weights import filled

BATCH = 50


def make_folders(place, n):
    data = load_data("fashion-mnist")
    for name, split in (("real", data.train), ("fake", data.test)):
        folder = Path(place, name)
        folder.mkdir()
        for i, image in enumerate((split[:n].x[:, 0] * 255).round().byte().numpy()):
            Image.fromarray(image).save(folder / f"{i:05}.png")
        yield folder


def plain_network():
    network = filled(EfficientNetLite0, WEIGHTS.state_dict().values())
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()
    return network.layers


def plain_features(folder, layers):
    files, parts = sorted(folder.glob("*.png")), []
    for start in range(0, len(files), BATCH):
        images = [np.asarray(Image.open(file).convert("RGB")) for file in files[start : start + BATCH]]
        x = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()).float() / 255
        with torch.no_grad():
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
            parts.append(layers((255 * x - 127) / 128).mean(dim=(2, 3)).double().numpy())
    return np.concatenate(parts)


def plain_distance(real, fake, layers):
    moments = []
    for folder in (real, fake):
        features = plain_features(folder, layers)
        moments.append((features.mean(axis=0), np.cov(features, rowvar=False)))
    (mean_a, cov_a), (mean_b, cov_b) = moments
    if len(list(real.iterdir())) <= len(cov_a):  # singular, as pytorch-fid treats it
        cov_a, cov_b = (c + 1e-6 * np.eye(len(c)) for c in (cov_a, cov_b))
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)


def measured(call):
    start, processor = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - start, time.process_time() - processor


def command(real, fake, *options):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = bestiary(["score", "--real", str(real), "--fake", str(fake), "--json", *options])
    if code:
        raise SystemExit(code)
    return json.loads(out.getvalue())["scores"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=10_000, help="images in each folder")
    parser.add_argument("--out", type=Path, help="write the result to this file too")
    options = parser.parse_args()
    layers = plain_network()
    efficientnet_lite0()
    with tempfile.TemporaryDirectory() as place:
        real, fake = make_folders(place, options.n)
        plain, plain_seconds, plain_processor = measured(lambda: plain_distance(real, fake, layers))
        table, seconds, processor = measured(lambda: command(real, fake, "-n", str(options.n)))
        _, short_seconds, short_processor = measured(
            lambda: command(real, fake, "-n", str(options.n), "--metrics", "frechet")
        )
    ours = table["frechet"]["value"]
    result = {
        "n": options.n,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "pytorch_fid_style": {"seconds": plain_seconds, "processor_seconds": plain_processor},
        "score_whole_table": {"seconds": seconds, "processor_seconds": processor},
        "score_frechet_alone": {"seconds": short_seconds, "processor_seconds": short_processor},
        "whole_table_in_times_of_pytorch_fid_style": seconds / plain_seconds,
        "frechet_pytorch_fid_style": float(plain),
        "frechet": ours,
        "relative_difference": abs(ours - plain) / plain,
        "rows": len(table),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
