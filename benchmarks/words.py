"""A transformer on English words, in bits per character, against models that count letters.

    python benchmarks/words.py --budget "8 epochs" --out benchmarks/words.json

Characters are the letters of a word and its end. The counting models predict a character from the n−1 before
it: counts of the training words, with Witten and Bell's weight on the next shorter context, down to equal
chances. Padding is free to them; the transformer pays for it, and how much is told.
"""

import argparse
import json
import math
import os
import platform
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path

import torch
from finished_run import finished_run

import bestiary

ORDERS = range(1, 8)
SHOWN = 30


def counted(words, longest):
    """Followers of every context of at most longest − 1 characters."""
    followers = defaultdict(Counter)
    for word in words:
        text = "\n" * (longest - 1) + word + "\n"
        for i in range(longest - 1, len(text)):
            for n in range(longest):
                followers[text[i - n : i]][text[i]] += 1
    return followers


def probability(followers, context, character, symbols):
    """(c(h, x) + T(h)·p(x | shorter h)) / (c(h) + T(h)), with T(h) different followers of h."""
    shorter = probability(followers, context[1:], character, symbols) if context else 1 / symbols
    known = followers.get(context)
    if not known:
        return shorter
    return (known[character] + len(known) * shorter) / (known.total() + len(known))


def bits_of_counts(train, test, order, symbols):
    """Bits of the test words by the counting model of one order."""
    followers, bits = counted(train, order), 0.0
    for word in test:
        text = "\n" * (order - 1) + word + "\n"
        for i in range(order - 1, len(text)):
            bits -= math.log2(probability(followers, text[i - order + 1 : i], text[i], symbols))
    return bits


def nats_of_padding(model, x):
    """What the model pays for all that follows the end symbols, in nats."""
    total = 0.0
    for part in x.split(500):
        after_end = (part == 0).cumsum(1) > 1
        with torch.no_grad():
            nats = torch.nn.functional.cross_entropy(model.logits(part), part, reduction="none")
        total += nats[after_end].double().sum().item()
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="8 epochs")
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=Path("runs/words"), help="resumed if it is there")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = bestiary.load_data("words")
    train, test = (data.spec.texts(split[:].x) for split in (data.train, data.test))
    characters = sum(len(word) + 1 for word in test)
    report = {
        "command": f"python benchmarks/words.py --budget '{options.budget}' --preset {options.preset}"
        f" --seed {options.seed}",
        "date": date.today().isoformat(),
        "seed": options.seed,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "data": {"fingerprint": data.fingerprint, "test_words": len(test), "test_characters": characters},
        "bits_per_character": {},
    }
    found = report["bits_per_character"]
    for order in ORDERS:
        found[f"{order}-gram"] = bits_of_counts(train, test, order, data.spec.vocabulary) / characters
    print(json.dumps(found, indent=1), flush=True)
    model = bestiary.create("transformer", spec=data.spec, preset=options.preset, seed=options.seed)
    run = finished_run(model, data, budget=options.budget, out=options.run, seed=options.seed)
    model = bestiary.load(run.folder)
    x = data.test[:].x
    with torch.no_grad():
        nats = -model.log_prob(x).double()
    found["transformer"] = nats.sum().item() / math.log(2) / characters
    known, held_out = set(train), set(test)
    drawn = data.spec.texts(model.sample(1000, generator=torch.Generator().manual_seed(options.seed)))
    report["transformer"] = {
        "settings": model.settings,
        "parameters": model.parameter_count,
        "clock": {key: run.state["clock"][key] for key in ("examples", "rounds", "seconds")},
        "nats_per_word": nats.mean().item(),
        "nats_per_word_error": nats.std().item() / math.sqrt(len(nats)),
        "bits_per_dim": nats.mean().item() / math.log(2) / data.spec.dimensions,
        "share_of_nats_for_padding": nats_of_padding(model, x) / nats.sum().item(),
        "of_1000_samples": {
            "in_train": sum(word in known for word in drawn),
            "in_test": sum(word in held_out for word in drawn),
        },
        "first_samples": drawn[:SHOWN],
    }
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
