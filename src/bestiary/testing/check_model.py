"""`check_model`: what every model of the package is held to, and your own can be with one call.

from bestiary.testing import check_model

def test_my_model():
    check_model(MyModel)
"""

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bestiary import catalogue
from bestiary.data.specs import Classes, ImageSpec, PointSpec, SequenceSpec, Spec, Vector
from bestiary.data.splits import ArraySplit, Data
from bestiary.errors import BestiaryError
from bestiary.models.base import (
    CAPABILITIES,
    ClosedForm,
    Completer,
    Critic,
    Encoder,
    LatentLikelihood,
    Likelihood,
    LikelihoodBound,
    Model,
    Move,
    Sampler,
    Translator,
)
from bestiary.randomness import forked_randomness
from bestiary.runs.folder import Run, load
from bestiary.runs.training import train
from bestiary.training.budget import Budget
from bestiary.training.loop import Training
from bestiary.training.runtime import choose_runtime

_ROUNDS = 4
_IMAGES = ImageSpec(channels=1, height=8, width=8, levels=4)


def check_model(model: str | type[Model], spec: Spec = _IMAGES, *, seed: int = 0) -> None:
    """Hold a model to everything that the package promises of one, as `Model.tiny(spec)`.

    Shapes and range of everything its capabilities offer; capabilities declared by inheritance; each
    move's gradient reaches all of its player's parameters and changes nobody else's; updates are counted
    as `times` and `every` say; training, sampling and scoring repeat bit by bit from their seeds and leave
    the global random state alone; a run saved, loaded and resumed half-way is bit-equal to one that was
    never interrupted.

    Arguments:
        model: a name of the catalogue, or your own class.
        spec: what it is tried on; 1x8x8 images of 4 levels by default.
        seed: of everything random in the check.

    Raises:
        AssertionError: a promise that the model breaks, in one line.
        BestiaryError: the model cannot be made for `spec`.
    """
    kind = catalogue.entry(model).load() if isinstance(model, str) else model
    identity = catalogue.entry(model).identity if isinstance(model, str) else {}
    data = random_data(spec, seed=seed)
    _check_declarations(kind)
    _check_outputs(_tiny(kind, spec, seed, identity), data, seed)
    _check_determinism(kind, data, seed, identity)
    if not issubclass(kind, ClosedForm):
        _check_moves(_tiny(kind, spec, seed, identity), data, seed)
        _check_resume(kind, data, seed, identity)
    _check_saving(kind, data, seed, identity)


def random_data(spec: Spec, *, n: int = 64, seed: int = 0) -> Data:
    """A tiny data set of random examples of any image, point or sequence spec, for tests.

    Raises:
        BestiaryError: another kind of spec.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(spec, ImageSpec):
        x = torch.randint(0, spec.levels, (3 * n, *spec.shape), generator=generator).to(torch.uint8)
        levels = spec.levels
    elif isinstance(spec, PointSpec):
        x, levels = torch.randn(3 * n, spec.dim, generator=generator), None
    elif isinstance(spec, SequenceSpec):
        x, levels = torch.randint(spec.vocabulary, (3 * n, spec.length), generator=generator), None
    else:
        raise BestiaryError(f"spec: found {type(spec).__name__}, wanted ImageSpec, PointSpec or SequenceSpec")
    if isinstance(spec.condition, Vector):
        raise BestiaryError("spec: check_model has no data with vector conditions, wanted none or Classes")
    labels = None
    if isinstance(spec.condition, Classes):
        labels = torch.randint(0, spec.condition.n, (3 * n,), generator=generator)
    parts = [
        ArraySplit(
            x[i * n : (i + 1) * n],
            levels=levels,
            labels=None if labels is None else labels[i * n : (i + 1) * n],
            conditional=labels is not None,
        )
        for i in range(3)
    ]
    train, validation, test = parts
    return Data("random", spec, train, validation, test, fingerprint=f"random-{n}-{seed}", source="random")


def _tiny(kind: type[Model], spec: Spec, seed: int, identity: Mapping[str, Any]) -> Model:
    """The tiny instance of a class, or of what the catalogue makes of it by settings of its own."""
    with forked_randomness(seed):
        model = kind.tiny(spec)
        if identity:
            made: Any = kind
            model = made(spec, **{**model.settings, **identity})
        return model.eval()


def _require(holds: bool, kind: type[Model] | Model, message: str) -> None:
    if not holds:
        name = kind.__name__ if isinstance(kind, type) else type(kind).__name__
        raise AssertionError(f"{name}: {message}")


def _check_declarations(kind: type[Model]) -> None:
    for capability in CAPABILITIES:
        for method in sorted(getattr(capability, "__abstractmethods__", ())):
            defined = callable(getattr(kind, method, None)) and not hasattr(Model, method)
            _require(
                issubclass(kind, capability) or not defined,
                kind,
                f"has a method {method}() but does not inherit {capability.__name__}",
            )


def _check_outputs(model: Model, data: Data, seed: int) -> None:
    spec, n = model.spec, 5
    random_state = torch.random.get_rng_state()
    if isinstance(model, ClosedForm):
        model.fit(data.train, generator=_generator(seed))
    batch = data.test[:n]
    x, condition = batch.x, batch.condition
    before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}

    def shaped(what: str, value: Tensor, *shape: int) -> None:
        _require(tuple(value.shape) == shape, model, f"{what} has shape {tuple(value.shape)}, wanted {shape}")
        _require(bool(value.isfinite().all()), model, f"{what} is not finite")

    def in_range(what: str, value: Tensor) -> None:
        top = (
            1
            if isinstance(spec, ImageSpec)
            else spec.vocabulary - 1
            if isinstance(spec, SequenceSpec)
            else None
        )
        if top is not None:
            inside = bool((value >= 0).all() and (value <= top).all())
            found = f"{float(value.min()):.3g} to {float(value.max()):.3g}"
            _require(inside, model, f"{what} leaves [0, {top}]: {found}")

    if isinstance(model, Sampler):
        sample = model.sample(n, condition=condition, generator=_generator(seed))
        shaped("sample(5)", sample, n, *spec.shape)
        same = sample.is_floating_point() == x.is_floating_point()
        _require(same, model, f"sample(5) is {sample.dtype}, but examples are {x.dtype}")
        in_range("sample(5)", sample)
        again = model.sample(n, condition=condition, generator=_generator(seed))
        _require(torch.equal(sample, again), model, "sample() differs for equal generators")
        other = model.sample(n, condition=condition, generator=_generator(seed + 1))
        _require(not torch.equal(sample, other), model, "sample() is the same for different generators")
    if isinstance(model, Likelihood):
        log_prob = model.log_prob(x, condition=condition)
        shaped("log_prob(x)", log_prob, n)
        _require(not log_prob.requires_grad, model, "log_prob(x) keeps a graph for gradients")
        was = model.training
        model.train()
        again = model.log_prob(x, condition=condition)
        model.train(was)
        _require(torch.equal(log_prob, again), model, "log_prob(x) is another while the model is trained")
    if isinstance(model, LikelihoodBound):

        def elbo() -> Tensor:
            return model.elbo(x, condition=condition, generator=_generator(seed))

        def bound() -> Tensor:
            return model.log_prob_bound(x, particles=3, condition=condition, generator=_generator(seed))

        for what, score in (("elbo(x)", elbo), ("log_prob_bound(x)", bound)):
            first = score()
            shaped(what, first, n)
            _require(torch.equal(first, score()), model, f"{what} differs for equal generators")
    if isinstance(model, LatentLikelihood):
        codes = model.draw_codes(n, condition=condition, generator=_generator(seed))
        shaped("draw_codes(n)", codes, n, model.latent_dim)
        shaped("log_likelihood(z, x)", model.log_likelihood(codes, x, condition=condition).detach(), n)
    if isinstance(model, Encoder):
        z = model.encode(x, condition=condition)
        _require(z.ndim == 2 and len(z) == n, model, f"encode(x) has shape {tuple(z.shape)}, wanted (5, Z)")
        shaped("decode(z)", model.decode(z, condition=condition), *x.shape)
        shaped("reconstruct(x)", model.reconstruct(x, condition=condition), *x.shape)
        in_range("decode(z)", model.decode(z, condition=condition))
    if isinstance(model, Completer):
        observed = torch.zeros_like(x, dtype=torch.bool)
        observed[..., : x.shape[-1] // 2] = True
        filled = model.complete(x, observed, n=2, condition=condition, generator=_generator(seed))
        shaped("complete(x, observed, n=2)", filled, 2, *x.shape)
        again = model.complete(x, observed, n=2, condition=condition, generator=_generator(seed))
        _require(torch.equal(filled, again), model, "complete() differs for equal generators")
        kept = torch.equal(filled[0][observed], x[observed])
        _require(kept, model, "complete() changes observed values")
    if isinstance(model, Translator):
        shaped("translate(x)", model.translate(x), *x.shape)
    if isinstance(model, Critic):
        shaped("score(x)", model.score(x, condition=condition), n)
    untouched = torch.equal(random_state, torch.random.get_rng_state())
    _require(untouched, model, "using the model touches torch's global random state")
    for name, value in before.items():
        same = torch.equal(value, model.state_dict()[name])
        _require(same, model, f"using the model changes {name}: run batch norm in evaluation mode")
    copied = copy.deepcopy(model)
    _require(copied.settings == model.settings, model, "a deep copy forgets its settings")


def _check_moves(model: Model, data: Data, seed: int) -> None:
    training = _training(model, data, seed)
    players = training.players
    covered = {id(p) for player in players.values() for p in player.parameters}
    idle = [name for name, p in model.named_parameters() if id(p) not in covered]
    _require(not idle, model, f"no player moves {', '.join(idle[:3])}")
    reached: dict[str, set[int]] = {name: set() for name in players}
    names = {id(p): name for name, p in model.named_parameters()}
    update = training._update

    def watched(move: Move, index: int, repetition: int) -> None:
        """One update, of which only the parameters of its own player may change."""
        own = {id(p) for p in players[move.player].parameters}
        others = {name: p.detach().clone() for name, p in model.named_parameters() if id(p) not in own}
        update(move, index, repetition)
        for name, parameter in model.named_parameters():
            if name in others:
                same = torch.equal(others[name], parameter)
                _require(same, model, f"a move of the {move.player} changes {name}, which is not its own")
            elif parameter.grad is not None:
                reached[move.player].add(id(parameter))

    training._update = watched  # type: ignore[method-assign]
    expected = dict.fromkeys(players, 0)
    for _ in range(_ROUNDS):
        for move in model.moves(training.clock):
            if training.clock.rounds % move.every == 0:
                expected[move.player] += move.times
        training.round()
    _require(
        training.clock.updates == expected,
        model,
        f"made {training.clock.updates} updates in {_ROUNDS} rounds, its moves say {expected}",
    )
    for player, group in players.items():
        missing = [names[id(p)] for p in group.parameters if id(p) not in reached[player]]
        if expected[player]:
            _require(not missing, model, f"the {player}'s cost gives no gradient to {', '.join(missing[:3])}")


def _check_determinism(kind: type[Model], data: Data, seed: int, identity: Mapping[str, Any]) -> None:
    state = torch.random.get_rng_state()
    results = []
    for _ in range(2):
        model = _tiny(kind, data.spec, seed, identity)
        if isinstance(model, ClosedForm):
            model.fit(data.train, generator=_generator(seed))
        else:
            _training(model, data, seed).run()
        results.append(_tensors(model))
    _require(_equal(*results), kind, "two trainings from the same seed differ")
    untouched = torch.equal(state, torch.random.get_rng_state())
    _require(untouched, kind, "training touches torch's global random state")


def _check_resume(kind: type[Model], data: Data, seed: int, identity: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        through = _tiny(kind, data.spec, seed, identity)
        budget = Budget(_ROUNDS, "rounds")
        train(through, data, budget=budget, out=folder / "through", seed=seed, device="cpu")
        halves = _tiny(kind, data.spec, seed, identity)

        def stop(training: Training) -> None:
            if training.clock.rounds == _ROUNDS // 2:
                raise _KilledError

        try:
            train(
                halves, data, budget=budget, out=folder / "halves", seed=seed, device="cpu",
                observers=[stop], checkpoint_seconds=0.0,
            )  # fmt: skip
        except _KilledError:
            halves = _tiny(kind, data.spec, seed + 1, identity)  # resuming must replace every weight
        train(halves, data, budget=budget, out=folder / "halves", seed=seed, device="cpu", resume=True)
        same = _equal(_tensors(through), _tensors(halves))
        _require(same, kind, "resumed half-way, its weights differ from a training never interrupted")


class _KilledError(Exception):
    """Stands in for the power going out."""


def _check_saving(kind: type[Model], data: Data, seed: int, identity: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        model = _tiny(kind, data.spec, seed, identity)
        run: Run = train(
            model, data, budget=Budget(1, "rounds"), out=Path(temporary) / "run", seed=seed, device="cpu"
        )
        loaded = load(run.folder, model=kind, averaged=False)
        _require(_equal(_tensors(model), _tensors(loaded)), kind, "a loaded model differs from the saved one")
        _require(
            loaded.settings == model.settings, kind, "a loaded model has other settings than the saved one"
        )


def _training(model: Model, data: Data, seed: int) -> Training:
    runtime = replace(choose_runtime(model, device="cpu"), precision="float32")
    return Training(model, data.train, budget=Budget(_ROUNDS, "rounds"), seed=seed, runtime=runtime)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tensors(model: Model) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items() if isinstance(v, Tensor)}


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
