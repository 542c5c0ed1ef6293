"""What a model itself says of unseen real examples: likelihoods, codes, reconstructions, what it can draw."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bestiary import metrics
from bestiary.data.specs import ImageSpec, SequenceSpec
from bestiary.data.splits import Batch
from bestiary.errors import DataError
from bestiary.metrics.active_units import ACTIVE
from bestiary.metrics.results import Score
from bestiary.models.adversarial.base import AdversarialModel
from bestiary.models.base import Encoder, LatentLikelihood, Likelihood, LikelihoodBound, Model
from bestiary.models.latent.base import DecoderModel, VariationalModel
from bestiary.models.noise import Draws
from bestiary.runs.findings import Evaluation, Reference

PARTICLES = 32
PAIRS = 500  # of an image and its reconstruction: LPIPS takes 0.01 s for each
ANNEALED = 50  # examples
POLYGONS = 2_000  # samples: a hundredth of a second for each
SOUGHT = 512  # images among what a generator can draw: a quarter of a second for each
_TEMPERATURES = 300
_CHAINS = 8
_CHUNK = 250

_LogProb = Callable[[Tensor, Tensor | None, torch.Generator], Tensor]


def add_model_score(metric: str, model: Model, reference: Reference, found: Evaluation) -> None:
    """Add what one metric of `bestiary.scores.METRICS` of a "model" says, or why it says nothing."""
    {
        "likelihood": _likelihood,
        "annealed": _annealed,
        "polygons": _polygons,
        "active-units": _active_units,
        "reconstruction": _reconstruction,
    }[metric](model, reference, found)


def _likelihood(model: Model, reference: Reference, found: Evaluation) -> None:
    kinds: dict[str, _LogProb] = {}
    if isinstance(model, Likelihood):
        exact = model
        kinds["exact"] = lambda x, condition, _: exact.log_prob(x, condition=condition)
    elif isinstance(model, LikelihoodBound):
        bound = model
        kinds[f"importance-weighted bound, {PARTICLES} particles"] = lambda x, condition, generator: (
            bound.log_prob_bound(x, particles=PARTICLES, condition=condition, generator=generator)
        )
        kinds["elbo"] = lambda x, condition, generator: bound.elbo(
            x, condition=condition, generator=generator
        )
    else:
        found.lack(["likelihood"], f"{type(model).__name__} has no likelihood")
        return
    treatment = _treatment(model)
    for prefix, (kind, log_prob) in zip(("", "elbo_"), kinds.items(), strict=False):
        generator = reference.generator(1)
        with torch.no_grad():
            parts = [
                log_prob(batch.x, batch.condition, generator).cpu()
                for batch in _batches(model, reference, reference.n)
            ]
        protocol = f"likelihood[{kind}, {treatment}, n={reference.n}, {reference.split}]"
        nats = -torch.cat(parts).double()
        _add_nats(prefix, nats, protocol, model, found)
        if not prefix:
            found.nats = nats


def _annealed(model: Model, reference: Reference, found: Evaluation) -> None:
    if not isinstance(model, LatentLikelihood):
        found.lack(["annealed"], f"{type(model).__name__} has no p(x|z) that could be annealed")
        return
    if model.spec.condition is not None:
        found.lack(["annealed"], "it is for models without a condition")
        return
    x = reference.examples[: min(reference.n, ANNEALED)].x.to(model.device)
    decoder = model
    with model.evaluation():
        annealed = metrics.annealed_log_likelihood(
            x,
            log_likelihood=lambda z, rows: decoder.log_likelihood(z.to(rows.dtype), rows),
            prior=metrics.LatentPrior(
                draw=lambda n, generator: decoder.draw_codes(n, generator=generator).double(),
                log_prob=lambda z: decoder.log_prior(z.to(x.dtype)).double(),
            ),
            treatment=_treatment(model),
            temperatures=_TEMPERATURES,
            chains=_CHAINS,
            generator=reference.generator(4),
        )
    _add_nats("annealed_", -annealed.per_example, _of_split(annealed, reference).protocol, model, found)


def _polygons(model: Model, reference: Reference, found: Evaluation) -> None:
    data, decode = reference.data, _generator(model)
    if data.source != "triangles":
        found.lack(["polygons"], f"{data.name} has no known polygons: it is for triangles")
        return
    if decode is None:
        found.lack(["polygons"], f"{type(model).__name__} has no generator of images from codes")
        return
    draws = min(reference.n, POLYGONS)
    latents = _codes(model, draws, reference.generator(5))
    with model.evaluation():
        finite = all(bool(decode(z).isfinite().all()) for z in latents.split(_CHUNK))
    if not finite:
        found.lack(["polygons"], "its samples are not finite")
        return
    with model.evaluation(), torch.enable_grad():  # recall is sought by descent through the generator
        scores = metrics.precision_recall_f1(
            real=reference.examples[: min(reference.n, SOUGHT)].x,
            latents=latents,
            decode=decode,
            vertices=data.options["vertices"],
        )
    for name in ("f1", "precision", "recall"):
        value, error = getattr(scores, name), getattr(scores, f"{name}_error")
        score = Score(value, error, scores.n_real, scores.n_fake, scores.protocol)
        found.add(f"polygon_{name}", _of_split(score, reference))


def _generator(model: Model) -> Callable[[Tensor], Tensor] | None:
    """The image of each code, differentiable, where samples are nothing else."""
    if model.spec.condition is not None:
        return None
    if isinstance(model, AdversarialModel):
        return model.generate
    if isinstance(model, DecoderModel) and not model.draw_noise:
        decoder = model
        return lambda z: decoder.observation.mean(decoder.raw(z, decoder.context(None, len(z))))
    return None


def _codes(model: Model, n: int, generator: torch.Generator) -> Tensor:
    if isinstance(model, AdversarialModel):
        return model.codes(Draws(model, n, generator))
    assert isinstance(model, DecoderModel)
    return model.draw_codes(n, generator=generator)


def _active_units(model: Model, reference: Reference, found: Evaluation) -> None:
    if not isinstance(model, Encoder):
        found.lack(["active-units"], f"{type(model).__name__} has no encoder")
        return
    with torch.no_grad():
        means = [
            model.encode(batch.x, condition=batch.condition).cpu()
            for batch in _batches(model, reference, reference.n)
        ]
    scale = model.code_variance if isinstance(model, VariationalModel) else 1.0
    score = metrics.active_units(means=torch.cat(means), threshold=ACTIVE * scale)
    found.add("active_units", _of_split(score, reference))


def _reconstruction(model: Model, reference: Reference, found: Evaluation) -> None:
    if not isinstance(model, Encoder):
        found.lack(["reconstruction"], f"{type(model).__name__} has no encoder")
        return
    if not isinstance(model.spec, ImageSpec):
        found.lack(["reconstruction"], f"{reference.data.name} has no images")
        return
    real, copies = [], []
    with torch.no_grad():
        for batch in _batches(model, reference, min(reference.n, PAIRS)):
            real.append(batch.x.cpu())
            copies.append(model.reconstruct(batch.x, condition=batch.condition).cpu())
    pairs = {"real": torch.cat(real), "fake": torch.cat(copies)}
    smaller_side = min(model.spec.height, model.spec.width)
    kinds: dict[str, Callable[[], Score]] = {
        "psnr": lambda: metrics.psnr(**pairs),
        "ssim": lambda: metrics.ssim(**pairs),
        "lpips": lambda: metrics.lpips(**pairs, network="alex" if smaller_side >= 31 else "vgg"),
    }
    for name, measure in kinds.items():
        try:
            score = measure()
        except DataError as error:  # images that are too small, or weights that are not installed
            found.lack([name], str(error))
        else:
            found.add(name, _of_split(score, reference), infinite="reconstructions are equal to the images")


def _batches(model: Model, reference: Reference, n: int) -> Iterator[Batch]:
    return (batch.to(model.device) for batch in reference.examples.batches(_CHUNK, limit=n))


def _treatment(model: Likelihood | LikelihoodBound | LatentLikelihood) -> str:
    spec = model.spec
    values = (
        f"{spec.vocabulary} symbols"
        if isinstance(spec, SequenceSpec)
        else f"{getattr(spec, 'levels', '')} levels"
    )
    return {
        "mass": f"log mass of {values}",
        "dequantised": "dequantised bound",
        "density": "density",
        "grey Bernoulli": "Bernoulli formula on grey levels, the likelihood of nothing",
    }[model.treatment]


def _add_nats(
    prefix: str,
    nats: Tensor,
    protocol: str,
    model: Likelihood | LikelihoodBound | LatentLikelihood,
    found: Evaluation,
) -> None:
    """The mean of −log p(x) of examples (n,), and the same in bits/dim where that has a meaning."""
    n, value, error = len(nats), float(nats.mean()), float(nats.std()) / math.sqrt(len(nats))
    found.add(f"{prefix}nats", Score(value, error, n, 0, protocol))
    if model.treatment in ("mass", "dequantised"):
        per_bit = math.log(2) * model.spec.dimensions
        found.add(f"{prefix}bits_per_dim", Score(value / per_bit, error / per_bit, n, 0, protocol))
    else:
        found.lack([f"{prefix}bits_per_dim"], f"a {_treatment(model)} has no bits/dim")


def _of_split(score: Score, reference: Reference) -> Score:
    """The same score with the split in its name."""
    protocol = f"{score.protocol.removesuffix(']')}, {reference.split}]"
    return Score(score.value, score.error, score.n_real, score.n_fake, protocol)
