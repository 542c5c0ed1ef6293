"""What drawing costs: the cached and the naive sampler against one forward pass, in one run.

    OMP_NUM_THREADS=1 python benchmarks/sampling.py --profile --out benchmarks/sampling.json

Every autoregressive model of the catalogue in the size of the published comparison, float32, at random
weights: what is drawn does not change the cost. For each batch, forward passes and cached draws alternate;
`cached_in_forward_passes` is the median of the ratios of neighbours, so that other work on the machine
counts on both sides. The naive sampler makes one forward pass for each sub-pixel: it is timed on the first
few of them, and its time is their number's share of the whole (`naive_seconds_extrapolated`), or the whole
where all are asked for. `published_speed_up` is that of Fast PixelCNN++ (Ramachandran et al., 2017, arXiv
1704.06001), on a GPU. With `--profile`, one more draw of each batch is taken to pieces: its shares are
those of what is computed once a row, of the products at a pixel, of the head's products (in models whose head
is a `PointwiseCache`; elsewhere they count as products at a pixel), and of drawing a level from its logits.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch

from bestiary.catalogue import CATALOGUE, create
from bestiary.data.specs import ImageSpec
from bestiary.models.autoregressive.base import Autoregressive
from bestiary.models.autoregressive.drawing import draw
from bestiary.networks.masked_cache import PointwiseCache
from bestiary.testing.naive_sampling import naive_sample


@dataclass(frozen=True)
class Size:
    """A model's settings for the table, and its images."""

    settings: dict
    spec: ImageSpec


GREY, COLOUR = ImageSpec(1, 28, 28), ImageSpec(3, 32, 32)
SIZES = {  # a model that is not named has its laptop preset
    "pixelcnn": Size({"blocks": 7, "channels": 64, "head_channels": 64}, GREY),
    "gated-pixelcnn": Size({"layers": 7, "channels": 64, "kernel_size": 5, "head_channels": 64}, GREY),
    "pixelcnn++": Size({}, COLOUR),
}
PUBLISHED_SPEED_UP = {1: 2.9, 2: 4, 4: 6, 8: 10, 16: 18, 32: 33, 64: 61, 128: 109, 256: 183}


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(model, batch, options):
    x = torch.rand(batch, *model.spec.shape)
    with model.evaluation():
        model.logits(x), model.sample(1)  # memory is allocated, kernels are chosen
        pairs = [
            (seconds(lambda: model.logits(x)), seconds(lambda: model.sample(batch)))
            for _ in range(options.repetitions)
        ]
        ratios = sorted(cached / forward for forward, cached in pairs)
        forward, cached = (statistics.median(side) for side in zip(*pairs, strict=True))
        row = {
            "batch": batch,
            "forward_seconds": forward,
            "cached_seconds": cached,
            "cached_in_forward_passes": statistics.median(ratios),
            "lowest": ratios[0],
            "highest": ratios[-1],
        }
        if batch in options.naive:
            row |= measure_naive(model, x, cached, options.naive_pixels)
        if options.profile:
            row["shares"] = profile(model, batch)
    return row


def measure_naive(model, x, cached, pixels):
    """The naive sampler's time, from that of its first pixels, and how much slower than the cached it is."""
    order = model.order[:pixels]
    first = SimpleNamespace(spec=model.spec, order=order, logits=model.logits, parameters=model.parameters)
    whole = len(model.order) / len(order)
    found = seconds(lambda: naive_sample(first, x)) * whole
    name = "naive_seconds" if whole == 1 else "naive_seconds_extrapolated"
    published = PUBLISHED_SPEED_UP.get(len(x))
    return {name: found, "naive_pixels": len(order), "speed_up": found / cached,
            "published_speed_up": published}  # fmt: skip


class Watched:
    """A cache that notes when its logits were asked for and when they were there."""

    def __init__(self, cache):
        self.put, self._cache, self.spans = cache.put, cache, []

    def logits(self, row, column, channel):
        start = time.perf_counter()
        logits = self._cache.logits(row, column, channel)
        self.spans.append(((row, column, channel), time.perf_counter() - start))
        return logits


def profile(model, batch):
    """Shares of the time of one draw. What the first pixel of a row takes longer is the work of the row."""
    head = 0.0
    compute = PointwiseCache.compute

    def timed(*arguments):
        nonlocal head
        start = time.perf_counter()
        maps = compute(*arguments)
        head += time.perf_counter() - start
        return maps

    cache = Watched(model.cache(batch))
    uniform = torch.rand(batch, *model.spec.shape)
    with patch.object(PointwiseCache, "compute", timed):
        total = seconds(lambda: draw(cache, model.order, uniform))
    everything = sum(span for _, span in cache.spans)
    starts = [span for place, span in cache.spans if place[1:] == (0, 0)]
    usual = statistics.median(span for (_, j, c), span in cache.spans if j and not c)
    rows = max(0.0, sum(starts) - len(starts) * usual)
    parts = {"rows": rows, "pixels": everything - rows - head, "head": head, "levels": total - everything}
    return {name: part / total for name, part in parts.items()}


def rounded(value):
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main():
    family = [
        name
        for name, entry in CATALOGUE.items()
        if entry.family == "autoregressive" and issubclass(entry.load(), Autoregressive)
    ]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=family, default=family)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--naive", type=int, nargs="*", help="batches for the naive sampler (default: all)")
    parser.add_argument("--naive-pixels", type=int, default=2, help="pixels that it is timed on")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="what the cost is made of")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.naive = options.batches if options.naive is None else options.naive
    report = {
        "command": "python benchmarks/sampling.py " + " ".join(sys.argv[1:]),
        "date": date.today().isoformat(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }
    rows = {}
    if options.out and options.out.exists():  # what is not measured now stays
        rows = {(row["model"], row["batch"]): row for row in json.loads(options.out.read_text())["rows"]}
    for name in options.models:
        size = SIZES.get(name) or Size(CATALOGUE[name].settings("laptop"), GREY)
        model = create(name, spec=size.spec, **size.settings)
        about = {"model": name, "image": list(size.spec.shape), "settings": size.settings,
                 "parameters": model.parameter_count}  # fmt: skip
        for batch in options.batches:
            rows[name, batch] = rounded({**about, **measure(model, batch, options)})
            print(json.dumps(rows[name, batch]), flush=True)
            if options.out:
                report["rows"] = [rows[key] for key in sorted(rows)]
                options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
