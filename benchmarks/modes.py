"""Mode coverage of real data: what a perfect model scores, and what the classifier's mistakes cost.

    python benchmarks/modes.py > benchmarks/modes.json

26,000 stacks of the test split, by the classifier of the single images and by their true labels; 2,500 points
of each mixture.
"""

import argparse
import json
import platform

import torch

from bestiary import load_data
from bestiary.data import grid_centres, mixture_1200d_centres, ring_centres, singles_of
from bestiary.metrics import channel_probabilities, embedding, mode_coverage, stacked_mode_coverage


def plain(found):
    return {
        "modes": found.value,
        "error": found.error,
        "of": found.modes,
        "quality": [found.quality.value, found.quality.error],
        "forward_kl": [found.forward_kl.value, found.forward_kl.error],
        "reverse_kl": [found.reverse_kl.value, found.reverse_kl.error],
        "protocol": found.protocol,
    }


def stacked(name):
    data = load_data(name)
    classifier = embedding("classifier", data=singles_of(data))
    probabilities = channel_probabilities((batch.x for batch in data.test.batches(500)), classifier)
    labels = data.test.labels
    digits = torch.stack([labels // 100, labels // 10 % 10, labels % 10], dim=1)
    right = (probabilities.argmax(dim=2) == digits).double()
    true = torch.nn.functional.one_hot(digits, 10).double()
    return {
        "by_classifier": plain(
            stacked_mode_coverage(probabilities=probabilities, embedding=classifier.protocol)
        ),
        "by_true_labels": plain(stacked_mode_coverage(probabilities=true, embedding="true labels")),
        "channels_classified_right": float(right.mean()),
        "stacks_classified_right": float(right.prod(dim=1).mean()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stacked", nargs="*", default=["stacked-mnist", "stacked-fashion-mnist"])
    options = parser.parse_args()
    found = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
    mixtures = {
        "ring": {"centres": ring_centres(), "sigma": 0.02},
        "grid": {"centres": grid_centres(), "sigma": 0.05},
        "mixture-1200d": {"centres": mixture_1200d_centres(), "sigma": 1.0, "dimensions": 700},
    }
    for name, about in mixtures.items():
        found[name] = plain(mode_coverage(fake=load_data(name).test[:2500].x, **about))
    for name in options.stacked:
        found[name] = stacked(name)
    print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
