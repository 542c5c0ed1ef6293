"""What training PixelRNN costs, and what its own gradient gains: three ways of one recurrence, in one run.

    python benchmarks/recurrence.py --out benchmarks/recurrence.json

Seconds per update (gradient and RMSProp step) at the size of the paper's MNIST model: 7 layers with h = 16,
a head of 32, 28 × 28, 2 levels, float32. All ways have the same weights and give the same cost. "naive" is
the textbook's: one direction after the other, maps skewed into a rectangle of H + W − 1 diagonals, gates as
convolutions, everything differentiated by autograd. "fused" has both directions in one product for each
diagonal, and only pixels of the image, by autograd. "own gradient" is what the package trains:
`bestiary.networks.lstm_scan`. The ways alternate; each number is the least of the repetitions, so that other
work on the machine counts little, and `processor_seconds` is the processor's time for it.
"""

import argparse
import json
import platform
import time
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F

from bestiary.catalogue import create
from bestiary.data.specs import ImageSpec
from bestiary.networks import lstm_layer


def cell(gates, before):
    o, f, i, g = gates.chunk(4, dim=-2)
    c = f.sigmoid() * before + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@lru_cache
def links(sweep):
    """For each step and source, its places among the states outside the image and of the step before."""
    found, begin, before = [], 0, []
    for size in sweep.sizes:
        end = begin + size
        place = {at: k for k, at in enumerate([*sweep.outside.tolist(), *before])}
        sources = sweep.sources[:, begin:end].tolist()
        found.append([torch.tensor([place[at] for at in source]) for source in sources])
        begin, before = end, sweep.places[begin:end].tolist()
    return found


def fused(x, weight, bias, hidden, memory, sweep):
    """The sweep of `lstm_scan`, by autograd."""
    channels, batch = x.shape[0], x.shape[2]
    inputs = torch.stack([x[:, order] for order in sweep.pixels])  # (D, I, P, B)
    product = torch.bmm(weight[:, :, :channels], inputs.flatten(2))
    gates = (product.unflatten(2, (-1, batch)) + bias[:, :, None]).split(sweep.sizes, dim=2)
    outside_h, outside_c = (
        value[:, :, None, None].expand(-1, -1, len(sweep.outside), batch) for value in (hidden, memory)
    )
    h, c, states = outside_h[:, :, :0], outside_c[:, :, :0], []
    for gate, sources in zip(gates, links(sweep), strict=True):
        h, c = torch.cat([outside_h, h], dim=2), torch.cat([outside_c, c], dim=2)
        right = torch.cat([h.index_select(2, source) for source in sources], dim=1)
        own = torch.baddbmm(gate.flatten(2), weight[:, :, channels:], right.flatten(2))
        before = c.index_select(2, sources[sweep.memory])
        h, c = (t.view_as(before) for t in cell(own, before.flatten(2)))
        states.append(h)
    every = torch.cat(states, dim=2)
    return torch.stack([maps[:, order.argsort()] for maps, order in zip(every, sweep.pixels, strict=True)])


def naive_rows(x, weight, bias, hidden, memory):
    """One row after the other; (h, H, W, B) from (I, H, W, B)."""
    _, height, width, batch = x.shape
    x, channels = x.permute(3, 0, 1, 2), x.shape[0]
    gates = F.conv2d(x, weight[:, :channels, None, None]) + bias.t()[:, :, None, None]
    taps = weight[:, channels:].unflatten(1, (3, -1)).transpose(1, 2)  # (4h, h, 3)
    h, c = (value[None, :, None].expand(batch, -1, width) for value in (hidden, memory))
    edge, rows = hidden[None, :, None].expand(batch, -1, 1), []
    for row in range(height):
        own = gates[:, :, row] + F.conv1d(torch.cat([edge, h, edge], dim=2), taps)
        h, c = cell(own, c)
        rows.append(h)
    return torch.stack(rows, dim=2).permute(1, 2, 3, 0)


def naive_diagonals(x, weight, bias, hidden, memory):
    """One skewed column after the other; (h, H, W, B) from (I, H, W, B)."""
    _, height, width, batch = x.shape
    x, channels = x.permute(3, 0, 1, 2), x.shape[0]
    skewed = torch.stack([F.pad(x[:, :, i], (i, height - 1 - i)) for i in range(height)], dim=2)
    gates = F.conv2d(skewed, weight[:, :channels, None, None]) + bias.t()[:, :, None, None]
    left, above = weight[:, channels:].chunk(2, dim=1)
    taps = torch.stack([above, left], dim=2)  # (4h, h, 2)
    first = [value[None, :, None].expand(batch, -1, height) for value in (hidden, memory)]
    h, c = first
    edge, columns = hidden[None, :, None].expand(batch, -1, 1), []
    rows = torch.arange(height)
    for column in range(height + width - 1):
        own = gates[..., column] + F.conv1d(torch.cat([edge, h], dim=2), taps)
        h, c = cell(own, c)
        begun = rows <= column  # before its first pixel a row is outside the image
        h, c = torch.where(begun, h, first[0]), torch.where(begun, c, first[1])
        columns.append(h)
    states = torch.stack(columns, dim=3)
    unskewed = torch.stack([states[:, :, i, i : i + width] for i in range(height)], dim=2)
    return unskewed.permute(1, 2, 3, 0)


def naive(height):
    def scan(x, weight, bias, hidden, memory, sweep):
        x = x.unflatten(1, (height, -1))
        parts = [part.unbind() for part in (weight, bias, hidden, memory)]
        if len(weight) == 1:
            return naive_rows(x, *(part[0] for part in parts)).flatten(1, 2)[None]
        left = naive_diagonals(x, *(part[0] for part in parts))
        right = naive_diagonals(x.flip(2), *(part[1] for part in parts)).flip(2)
        return torch.stack([left, right]).flatten(2, 3)

    return scan


@contextmanager
def recurrence(scan):
    """The model's layers with another way of the recurrence."""
    own = lstm_layer.lstm_scan
    lstm_layer.lstm_scan = scan or own
    try:
        yield
    finally:
        lstm_layer.lstm_scan = own


def update(model, optimizer, x, scan):
    begin, processor = time.perf_counter(), time.process_time()
    with recurrence(scan):
        loss = -model._log_prob(x, None).mean()
        optimizer.zero_grad()
        loss.backward()
    optimizer.step()
    return loss.item(), time.perf_counter() - begin, time.process_time() - processor


def measure(name, batch, options):
    spec = ImageSpec(1, options.side, options.side, levels=2)
    x = torch.randint(2, (batch, *spec.shape), generator=torch.Generator().manual_seed(0)).float()
    ways = {"naive": naive(options.side), "fused": fused, "own gradient": None}
    sides = {}
    for way, scan in ways.items():
        model = create(name, spec=spec, layers=options.layers, channels=16, head_channels=32).train()
        player = model.players()["model"]
        sides[way] = (model, player.optimizer(player.parameters), x, scan)
    costs, seconds, processor = ({way: [] for way in ways} for _ in range(3))
    for _ in range(options.repetitions + 1):  # the first one allocates
        for way, side in sides.items():
            for store, value in zip((costs, seconds, processor), update(*side), strict=True):
                store[way].append(value)
    spread = max(abs(costs[way][0] - costs["naive"][0]) for way in ways)
    assert spread < 1e-2, f"the ways differ by {spread} nats of {costs['naive'][0]}"
    least = {way: min(values[1:]) for way, values in seconds.items()}
    own = least["own gradient"]
    return {
        "model": name,
        "batch": batch,
        "seconds_per_update": {way: round(value, 4) for way, value in least.items()},
        "processor_seconds": {way: round(min(values[1:]), 4) for way, values in processor.items()},
        "naive_in_times_of_own": round(least["naive"] / own, 2),
        "fused_in_times_of_own": round(least["fused"] / own, 2),
        "updates_per_second": round(1 / own, 2),
        "images_per_second": round(batch / own, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["pixelrnn-row", "pixelrnn-diagonal"])
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.models:
        for batch in options.batches:
            rows.append(measure(name, batch, options))
            print(json.dumps(rows[-1]), flush=True)
    about = {
        "command": f"python benchmarks/recurrence.py --repetitions {options.repetitions}",
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    if options.out:
        options.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
