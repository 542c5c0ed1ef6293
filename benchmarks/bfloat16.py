"""Does bfloat16 do harm? The same trainings in float32 and in bfloat16, over several seeds.

    python benchmarks/bfloat16.py --model ns-gan --rounds 3000 --seeds 0 1 2 --out benchmarks/bfloat16.json

On hardware with bfloat16 both are trained as `bestiary train` trains them. Elsewhere bfloat16 is emulated,
and the result says so: every tensor that costs and their gradients compute is rounded to bfloat16, sums
inside an operation stay float32, weights and optimisers too, which is what such hardware does under
autocast. What `--out` holds already is not trained again. `--check` compares one update's gradients with
those of true autocast, which is slow there.
"""

import argparse
import json
import platform
import statistics
from datetime import date
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

import bestiary
from bestiary.runs.evaluation import Evaluator
from bestiary.training.budget import parse_budget
from bestiary.training.loop import Training
from bestiary.training.runtime import Runtime, choose_runtime

# Of these the first result alone is bfloat16 under autocast: moments and gradients of scales stay float32.
MIXED = (torch.ops.aten.native_batch_norm, torch.ops.aten.native_batch_norm_backward)


class Rounded(TorchDispatchMode):
    """Rounds every new floating-point tensor that is computed in the block to bfloat16."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if any(returned.alias_info is not None for returned in func._schema.returns):
            return result  # a view, or written in place
        if func.overloadpacket in MIXED:
            return (rounded(result[0]), *result[1:])
        return tree_map(rounded, result)


def rounded(value):
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        return value.bfloat16().float()
    return value


class Emulated(Training):
    """A training whose costs and gradients are rounded to bfloat16."""

    def _gradients(self, *arguments):
        with Rounded():
            return super()._gradients(*arguments)


def has_bfloat16():
    return (
        torch.cpu._is_avx512_bf16_supported()
        or torch.cpu._is_amx_tile_supported()
        or torch.cuda.is_available()
    )


def make(options, data, precision, seed):
    model = bestiary.create(options.model, spec=data.spec, preset="laptop", seed=seed)
    emulate = precision == "bfloat16" and not has_bfloat16()
    kind = Emulated if emulate else Training
    runtime = choose_runtime(model, precision="float32" if emulate else precision)
    budget = parse_budget(f"{options.rounds} rounds")
    return kind(model, data.train, budget=budget, seed=seed, runtime=runtime)


def train_and_score(options, data, precision, seed):
    training = make(options, data, precision, seed)
    outcome = training.run()
    weights = {**training.model.state_dict(), **training.averages.state()}
    training.model.load_state_dict(weights)
    scores = Evaluator(data, n=options.n, split="test").evaluate(training.model, ["frechet"]).scores
    (score,) = scores.values()
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
            training.runtime = Runtime(training.runtime.device, "bfloat16")
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
    rows = json.loads(options.out.read_text())["rows"] if options.out and options.out.exists() else []
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
        "bfloat16": "of the hardware" if has_bfloat16() else "emulated by rounding",
        "date": date.today().isoformat(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "threads": torch.get_num_threads(),
        "mean": {p: round(statistics.mean(values), 2) for p, values in of.items() if values},
        "spread": {p: round(max(values) - min(values), 2) for p, values in of.items() if values},
        "rows": rows,
    }


if __name__ == "__main__":
    main()
