"""A law of codes for a model that was trained without one, or that does not keep to the one it has."""

import copy
from pathlib import Path
from typing import Literal

from bestiary.data.splits import Data
from bestiary.errors import BestiaryError, RunError, unknown_name
from bestiary.models.base import Encoder, Model
from bestiary.models.latent.fitted_prior import CodesName, FittedFlow, FittedMixture, FittedPrior
from bestiary.randomness import forked_randomness
from bestiary.runs.folder import Run, check_same_data, load, open_run
from bestiary.runs.training import train

DensityName = Literal["gaussian", "mixture", "flow"]

_DENSITIES = ("gaussian", "mixture", "flow")


def fit_prior(
    model: Model | Run | str | Path,
    data: Data,
    *,
    density: DensityName = "mixture",
    components: int = 10,
    codes: CodesName = "draws",
    budget: str = "10 epochs",
    out: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
) -> FittedPrior:
    """Fit a density to the codes of the training data: what samples from it decode to is new examples.

    An autoencoder gets its only sampler so; a VAE gets one whose codes come from where its decoder was
    trained, in place of a prior that the aggregate posterior does not meet (see `elbo_surgery`). The fitted
    model is a run of its own, with a copy of the encoder: `bestiary.load`, `bestiary sample` and
    `bestiary evaluate` take it as any other.

    References:
        *From Variational to Deterministic Autoencoders* (Ghosh et al., 2020), arXiv 1903.12436, §4, whose
        mixtures have 10 components; *Diagnosing and Enhancing VAE Models* (Dai & Wipf, 2019), arXiv
        1903.05789, §4, which fits draws of q(z|x).

    Arguments:
        model: any Encoder, trained; or its run, or the run's folder.
        data: what it was trained on; only `data.train` is encoded.
        density: "gaussian" with a whole covariance; "mixture" of such, by scikit-learn's EM; "flow", a neural
            spline flow.
        components: of the mixture.
        codes: "draws" of q(z|x) where the model has one, whose law is the aggregate posterior; "means", as
            `encode` gives them (see `FittedPrior`).
        budget: of the flow; the others are solved at once.
        out: the folder of the new run; by default the next free runs/fitted-mixture-001 or
            runs/fitted-flow-001.
        seed: of the draws, and of the fit.
        resume: go on with the run in `out`, or open it where it is finished.

    Returns:
        a Sampler and Encoder.

    Raises:
        BestiaryError: a model without codes, or made for other data.
        OptionError: an unknown density, or a number that is not valid.
        DataError: too few examples, or for a mixture data without end.
        RunError: `model` is no run; `out` is not empty; the flow diverged or was stopped.

    Example:
        >>> sampler = fit_prior("runs/autoencoder", data, density="mixture", out="runs/with-mixture")
        >>> sampler.sample(64).shape
        torch.Size([64, 1, 28, 28])
    """
    if density not in _DENSITIES:
        raise unknown_name("density", density, _DENSITIES)
    if not isinstance(model, Model):
        model = (model if isinstance(model, Run) else open_run(model)).model
    model = copy.deepcopy(model.encoder if isinstance(model, FittedPrior) else model)
    if not isinstance(model, Encoder):
        raise BestiaryError(f"model: found {type(model).__name__}, wanted one that has codes of examples")
    check_same_data(model.spec, data, "model")
    first = next(data.train.batches(1, limit=1)).to(model.device)
    latent_dim = model.encode(first.x, condition=first.condition).shape[1]
    fitted: FittedPrior
    with forked_randomness(seed):
        if density == "flow":
            fitted = FittedFlow(model, latent_dim=latent_dim, codes=codes)
        else:
            k = components if density == "mixture" else 1
            fitted = FittedMixture(model, latent_dim=latent_dim, components=k, codes=codes)
    run = train(fitted, data, budget=budget, out=out, seed=seed, resume=resume)
    if run.status != "finished":
        raise RunError(f"{run.folder}: the flow {run.status} ({run.state['reason']}), wanted it trained")
    opened = load(run.folder, model=type(model))
    assert isinstance(opened, FittedPrior)
    return opened
