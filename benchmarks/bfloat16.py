"""Does bfloat16 do harm? The same trainings in float32 and in bfloat16, over several seeds.

    python benchmarks/bfloat16.py --model ns-gan --rounds 3000 --seeds 0 1 2 --out benchmarks/bfloat16.json

On hardware with bfloat16 both are trained as `bestiary train` trains them. Elsewhere it is emulated, and the
result says so: true autocast, but convolutions and matrix products of bfloat16 tensors are done in float32
and rounded, which is what such hardware does, and here ten times as fast as torch's own kernels. What `--out`
holds already is not trained again. `--check` compares one update's gradients with those of torch's kernels.
"""

import argparse
import json
import platform
import statistics
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

import bestiary
from bestiary.runs.evaluation import Evaluator
from bestiary.training.budget import parse_budget
from bestiary.training.loop import Training
from bestiary.training.runtime import choose_runtime

HEAVY = (
    torch.ops.aten.convolution,
    torch.ops.aten.convolution_backward,
    torch.ops.aten.addmm,
    torch.ops.aten.mm,
)


class InFloat32(TorchDispatchMode):
    """Convolutions and matrix products of bfloat16 tensors: in float32, and then rounded."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        half = any(isinstance(a, torch.Tensor) and a.dtype == torch.bfloat16 for a in args)
        if not (half and func.overloadpacket in HEAVY):
            return func(*args, **(kwargs or {}))
        result = func(*tree_map(partial(cast, dtype=torch.float32), args), **(kwargs or {}))
        return tree_map(partial(cast, dtype=torch.bfloat16), result)


def cast(value, dtype):
    other = torch.bfloat16 if dtype == torch.float32 else torch.float32
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.dtype == other else value


class Emulated(Training):
    """A training under autocast, with fast convolutions and matrix products."""

    def _gradients(self, *arguments):
        with InFloat32():
            return super()._gradients(*arguments)


def has_bfloat16():
    return (
        torch.cpu._is_avx512_bf16_supported()
        or torch.cpu._is_amx_tile_supported()
        or torch.cuda.is_available()
    )


def how():
    """What bfloat16 means on this machine."""
    return "of the hardware" if has_bfloat16() else "emulated: products in float32, rounded"


def make(options, data, precision, seed):
    model = bestiary.create(options.model, spec=data.spec, preset="laptop", seed=seed)
    kind = Training if precision == "float32" or has_bfloat16() else Emulated
    runtime = choose_runtime(model, precision=precision)
    budget = parse_budget(f"{options.rounds} rounds")
    return kind(model, data.train, budget=budget, seed=seed, runtime=runtime)


def train_and_score(options, data, precision, seed):
    training = make(options, data, precision, seed)
    outcome = training.run()
    weights = {**training.model.state_dict(), **training.averages.state()}
    training.model.load_state_dict(weights)
    scores = Evaluator(data, n=options.n, split="test").evaluate(training.model, ["frechet"]).scores
    score = scores["frechet"]
    return {
        "precision": precision,
        "seed": seed,
        "status": outcome.status,
        "frechet": round(score.value, 2),
        "error": round(score.error, 2),
        "seconds": round(training.clock.seconds),
        "protocol": score.protocol,
    }


def relative_errors(options, data):
    """|g − g₃₂| / |g₃₂| of each player's first gradient, emulated and under true autocast."""
    gradients = {}
    for kind in ("float32", "emulated", "autocast"):
        training = make(options, data, "bfloat16" if kind == "emulated" else "float32", 0)
        if kind == "autocast":
            training.runtime = replace(training.runtime, precision="bfloat16")
        found = {}
        for name, optimizer in training.optimizers.items():

            def keep(optimizer, *_, name=name, found=found):
                grads = [p.grad.flatten() for g in optimizer.param_groups for p in g["params"]]
                found.setdefault(name, torch.cat(grads).clone())

            optimizer.register_step_pre_hook(keep)
        training.round()
        gradients[kind] = found
    return {
        f"{player}, {kind}": float((gradients[kind][player] - exact).norm() / exact.norm())
        for player, exact in gradients["float32"].items()
        for kind in ("emulated", "autocast")
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ns-gan")
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    data = bestiary.load_data("fashion-mnist")
    if options.check:
        print(json.dumps(relative_errors(options, data), indent=1))
        return
    kept = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    asked = f"--model {options.model} --rounds {options.rounds} "
    if kept and not (asked in kept["command"] and kept["bfloat16"] == how()):
        parser.error(f"--out: {options.out} is of `{kept['command']}`, {kept['bfloat16']}: name another")
    rows = kept.get("rows", [])
    for seed in options.seeds:
        for precision in ("float32", "bfloat16"):
            if (precision, seed) not in {(row["precision"], row["seed"]) for row in rows}:
                rows.append(train_and_score(options, data, precision, seed))
                print(json.dumps(rows[-1]), flush=True)
                if options.out:
                    options.out.write_text(json.dumps(summary(options, rows), indent=1) + "\n")
    print(json.dumps(summary(options, rows)["mean"]))


def summary(options, rows):
    of = {p: [row["frechet"] for row in rows if row["precision"] == p] for p in ("float32", "bfloat16")}
    return {
        "command": f"python benchmarks/bfloat16.py --model {options.model} --rounds {options.rounds}"
        f" --seeds {' '.join(map(str, options.seeds))} -n {options.n}",
        "bfloat16": how(),
        "date": date.today().isoformat(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "threads": torch.get_num_threads(),
        "mean": {p: round(statistics.mean(values), 2) for p, values in of.items() if values},
        "spread": {p: round(max(values) - min(values), 2) for p, values in of.items() if values},
        "rows": rows,
    }


if __name__ == "__main__":
    main()
