"""Devices that this machine does not have: PyTorch's "meta" device computes nothing but refuses to be mixed.

What reads a value there (a check of a range, a loop that ends by chance) is told that all is well.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bestiary import catalogue, tasks
from bestiary.data.specs import Classes, ImageSpec, SequenceSpec
from bestiary.data.splits import Batch
from bestiary.distributions.observation import Bernoulli, DiscretisedLogistic, Gaussian
from bestiary.errors import OptionError
from bestiary.models.adversarial.base import AdversarialModel
from bestiary.models.base import (
    Clock,
    ClosedForm,
    Completer,
    Critic,
    Encoder,
    Likelihood,
    LikelihoodBound,
    Model,
    Sampler,
    Step,
)
from bestiary.testing.check_model import random_data
from bestiary.training import runtime

IMAGES = ImageSpec(3, 4, 4, levels=4, condition=Classes(3))
_RANDOM = {torch.rand, torch.randn, torch.randint, torch.bernoulli, torch.multinomial, torch.randperm}


class Elsewhere(TorchFunctionMode):
    """What a device other than the processor would refuse, refused; what it could tell, told as 1 or true."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first, name = (args[0] if args else None), getattr(function, "__name__", "")
        if isinstance(first, Tensor) and first.is_meta:
            if name in ("__bool__", "equal", "__int__", "__index__", "__float__", "item"):
                return True if name in ("__bool__", "equal") else (1.0 if first.is_floating_point() else 1)
            if name == "tolist":
                return np.ones(tuple(first.shape), float if first.is_floating_point() else int).tolist()
            if name == "cpu" or (name == "to" and "cpu" in map(str, (*args[1:], *kwargs.values()))):
                return torch.zeros(first.shape, dtype=first.dtype)
        result = function(*args, **kwargs)
        if isinstance(result, Tensor) and result.is_meta:
            generator = kwargs.get("generator")
            assert function not in _RANDOM or generator is None or generator.device == result.device, name
            assert result.dtype != torch.float64, f"{name}: float64, which MPS does not have"
        return result


class MetaStep(Step):
    """A step whose noise is elsewhere too: there is no generator there."""

    def _share(self, draw: Any, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(self.size, *shape, device="meta")


def _moved(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


def _uses(model: Model, batch: Batch) -> Mapping[str, Any]:
    """What can be asked of a model, by name."""
    x, condition, seeded = batch.x, batch.condition, torch.Generator().manual_seed(0)
    how: dict[str, Any] = {"condition": condition}
    drawn = how | {"generator": seeded}
    uses: dict[str, Any] = {}
    if isinstance(model, Sampler):
        uses["sample"] = lambda: model.sample(len(x), **drawn)
    if isinstance(model, Likelihood):
        uses["log_prob"] = lambda: model.log_prob(x, **how)
    if isinstance(model, LikelihoodBound):
        uses["elbo"] = lambda: model.elbo(x, **drawn)
        uses["log_prob_bound"] = lambda: model.log_prob_bound(x, particles=3, **drawn)
    if isinstance(model, Encoder):
        uses["decode"] = lambda: model.decode(model.encode(x, **how), **how)
        uses["reconstruct"] = lambda: model.reconstruct(x, **how)
    if isinstance(model, Critic):
        uses["score"] = lambda: model.score(x, **how)
    if isinstance(model, Completer):
        observed = torch.ones(x.shape, dtype=torch.bool, device="meta")
        uses["complete"] = lambda: model.complete(x, observed, **drawn)
    return uses


def _moves(model: Model, batch: Batch) -> Mapping[str, Any]:
    """A round of its game, by name of the player."""
    model.initialise(batch)
    players = model.players()
    optimizers = {name: player.optimizer(list(player.parameters)) for name, player in players.items()}

    def run(move: Any) -> None:
        shown = None if move.batch == "none" else batch
        step = MetaStep(
            len(batch.x), Clock(updates=dict.fromkeys(players, 0)), torch.Generator(), optimizers, shown
        )
        move.cost(step)["loss"].backward()
        if move.after is not None:
            move.after()

    moves = model.moves(Clock(updates=dict.fromkeys(players, 0), epoch_size=64))
    return {f"{i}: {move.player}": lambda move=move: run(move) for i, move in enumerate(moves)}


def _check(what: str, use: Any) -> None:
    try:
        use()
    except NotImplementedError as error:
        # how many numbers there are decides a shape: not to be known where nothing is computed
        if "nonzero" not in str(error):
            raise
    except (RuntimeError, TypeError) as error:
        raise AssertionError(f"{what}: {error}") from error


@pytest.mark.parametrize("name", catalogue.CATALOGUE)
def test_models_stay_on_their_device(name: str) -> None:
    kind = catalogue.entry(name).load()
    spec: Any = SequenceSpec(length=6, vocabulary=5) if name == "transformer" else IMAGES
    model = kind.tiny(spec)
    if isinstance(model, ClosedForm):
        pytest.skip("in float64, on the processor: test_float64")
    some = next(random_data(spec).train.batches(8))
    model.to("meta")
    batch = Batch(_moved(some.x), _moved(some.condition))
    with Elsewhere():
        with model.evaluation():
            for what, use in _uses(model, batch).items():
                _check(what, use)
        model.train()
        for what, use in _moves(model, batch).items():
            _check(what, use)


def _tasks(model: Model, batch: Batch) -> Mapping[str, Any]:
    """What the command line does with a model, by name."""
    x, condition, seeded = batch.x, batch.condition, torch.Generator().manual_seed(0)
    both = None if condition is None else (condition, condition)
    uses: dict[str, Any] = {}
    if isinstance(model, Encoder):
        uses["interpolate"] = lambda: tasks.interpolate(model, x, x.flip(0), steps=3, condition=both)
    if isinstance(model, AdversarialModel):
        uses["interpolate_codes"] = lambda: tasks.interpolate_codes(
            model, len(x), steps=3, condition=condition, generator=seeded
        )
    if isinstance(model, Completer):
        observed = tasks.observed_pixels("lower", IMAGES, len(x)).to("meta")
        uses["complete"] = lambda: tasks.complete(
            model, x, observed, n=2, condition=condition, generator=seeded
        )
    return uses


@pytest.mark.parametrize("name", ["vae", "conditional-vae", "ns-gan", "order-agnostic", "gated-pixelcnn"])
def test_tasks_stay_on_the_device_of_the_model(name: str) -> None:
    model = catalogue.entry(name).load().tiny(IMAGES)
    some = next(random_data(IMAGES).train.batches(8))
    model.to("meta")
    uses = _tasks(model, Batch(_moved(some.x), _moved(some.condition)))
    assert uses
    with Elsewhere():
        for what, use in uses.items():
            _check(what, use)


def test_the_mode_would_notice() -> None:
    class Careless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.mean = torch.zeros(3)  # no buffer: left behind

        def forward(self) -> Tensor:
            return self.weight - self.mean

    with Elsewhere(), pytest.raises(AssertionError, match="device"):
        _check("forward", Careless().to("meta"))


@pytest.mark.parametrize("law", [Bernoulli(4), DiscretisedLogistic(4), Gaussian(4)])
def test_a_seed_on_the_processor_serves_elsewhere(law: Any) -> None:
    raw = torch.zeros(5, law.outputs, 2, 2, device="meta")
    with Elsewhere():
        assert law.draw(raw, torch.Generator().manual_seed(0)).is_meta


def test_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "choose_device", lambda device: torch.device("mps"))
    mixture, vae = (catalogue.entry(name).load().tiny(IMAGES) for name in ("gaussian-mixture", "vae"))
    assert runtime.device_for(vae).type == "mps"
    assert runtime.device_for(mixture).type == "cpu"
    with pytest.raises(OptionError, match="no float64"):
        runtime.device_for(mixture, "mps")
