"""What drawing from `gated-pixelcnn` costs: cached and naive sampler against one forward pass, in one run.

    python benchmarks/sampling.py --batches 1 16 64 --naive 1

The network of the published comparison's size: 7 layers of 64 maps, 28 × 28, 256 levels, float32. Each
number is the median of the repetitions; forward passes and cached draws alternate.
"""

import argparse
import json
import platform
import statistics
import time

import torch

from bestiary.catalogue import create
from bestiary.data.specs import ImageSpec
from bestiary.testing.naive_sampling import naive_sample


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--naive", type=int, nargs="*", default=[1], help="batches for the naive sampler too")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    spec = ImageSpec(1, 28, 28)
    model = create("gated-pixelcnn", spec=spec, layers=7, channels=64, kernel_size=5, head_channels=64)
    rows = []
    for batch in options.batches:
        x = torch.rand(batch, *spec.shape)
        uniform = torch.rand(batch, *spec.shape)
        forward, cached = [], []
        with model.evaluation():
            for _ in range(options.repetitions):
                forward.append(seconds(lambda x=x: model.logits(x)))
                cached.append(seconds(lambda n=batch: model.sample(n)))
            naive = seconds(lambda u=uniform: naive_sample(model, u)) if batch in options.naive else None
        row = {
            "batch": batch,
            "forward_seconds": statistics.median(forward),
            "cached_seconds": statistics.median(cached),
            "cached_in_forward_passes": statistics.median(cached) / statistics.median(forward),
            "naive_seconds": naive,
        }
        rows.append({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
    print(json.dumps({**about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
