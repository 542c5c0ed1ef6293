"""Whether a variational model still uses its codes, looked at while it trains."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from bestiary.data.splits import Batch
from bestiary.distributions.gaussian import gaussian_kl
from bestiary.metrics.active_units import ACTIVE, active_units
from bestiary.models.base import Clock
from bestiary.models.latent.base import VariationalModel
from bestiary.runs.json_lines import append_line
from bestiary.runs.observers import Milestones, score_line
from bestiary.training.loop import Training

EXAMPLES = 256
_FIRST_ROUNDS = 300  # in which too little is learned to say anything
_FAIR_SHARE = 0.3  # of the budget, after which units should be in use
_UNUSED = 20  # one unit in so many does not count
_FEW_NATS = 0.25  # a posterior on a sphere, whose κ is at least 1, never has less than 0.21 on a circle
_NAME = "posterior collapse"


class CodesInUse:
    """Counts the active units of a variational model ten times over the budget, and warns of a collapse.

    Each count is a line of scores.jsonl, of the same 256 training examples, with the variances of the
    posterior means and, where prior and posterior have independent dimensions, the KL of each in nats. A
    posterior collapse is that almost no unit is active, or that the whole divergence is next to nothing.

    References: *Importance Weighted Autoencoders* (Burda et al., 2016), arXiv 1509.00519, for active units:
    those whose posterior means have a variance above 0.01.

    Arguments:
        path: of scores.jsonl.
        clock: of the training that begins or goes on.
        warned: what was warned of before this training was interrupted.

    Attributes:
        warned: what was warned of, at most one line.
    """

    def __init__(self, path: Path, clock: Clock, warned: Sequence[str] = (), times: int = 10) -> None:
        self._path = path
        self._milestones = Milestones(times, clock)
        self.warned = [line for line in warned if line.startswith(_NAME)]

    def __call__(self, training: Training) -> None:
        """After a round."""
        model, clock = training.model, training.clock
        if not isinstance(model, VariationalModel):
            return
        if not self._milestones.due(clock) or clock.rounds < _FIRST_ROUNDS:
            return
        batch = training.source.spread(EXAMPLES).to(model.device)
        means = model.encode(batch.x, condition=batch.condition)
        if not means.isfinite().all():  # the loop finds out by itself that training diverged
            return
        found = active_units(means=means, threshold=ACTIVE * model.code_variance)
        kl = kl_by_unit(model, batch)
        score = replace(found, protocol=f"{found.protocol.removesuffix(']')}, train]")
        append_line(
            self._path,
            {
                **score_line("active_units", score, clock.examples, "train", 0),
                "variances": found.variances,
                "kl": None if kl is None else kl.tolist(),
            },
        )
        total = training.latest_terms().get("model/kl", float("inf"))
        units, active = len(found.variances), int(found.value)
        if self.warned or clock.progress < _FAIR_SHARE or (active > units // _UNUSED and total > _FEW_NATS):
            return
        self.warned.append(
            f"{_NAME}: {active} of {units} units of the code are in use, with {total:.2g} nats in"
            f" all, after {100 * clock.progress:.0f} % of the budget: {_remedies(model)}"
        )
        warnings.warn(self.warned[-1], stacklevel=2)


def kl_by_unit(model: VariationalModel, batch: Batch) -> Tensor | None:
    """KL(q(z_j|x) ‖ p(z_j)) of each unit j in the mean over examples, nats, (Z,).

    None for a model whose posterior or prior is not normal with independent dimensions.
    """
    # here, because they bring flows along, which take a while to import and other models do not need
    from bestiary.distributions.posteriors import DiagonalNormal
    from bestiary.models.latent.conditional_vae import ConditionalVAE
    from bestiary.models.latent.vae import VAE

    if not isinstance(model, VAE):
        return None
    with model.evaluation():
        context = model.context(batch.condition, len(batch))
        q = model.posterior(batch.x, context)
        if not isinstance(q, DiagonalNormal):
            return None
        mean, log_sigma = q.mean, q.log_sigma
        if isinstance(model, ConditionalVAE):
            assert context is not None
            p = model.code_prior(context)
            mean, log_sigma = (mean - p.mean) * (-p.log_sigma).exp(), log_sigma - p.log_sigma
        elif model.settings["prior"] != "standard":
            return None
        return gaussian_kl(mean.reshape(-1, 1), log_sigma.reshape(-1, 1)).view_as(mean).mean(0)


def _remedies(model: VariationalModel) -> str:
    settings = model.settings
    words = []
    if "warmup" in settings:
        words.append(f"warm up the divergence for longer (warmup, now {settings['warmup']:g} epochs)")
    if settings.get("capacity") is not None:
        words.append(f"raise the capacity (now {settings['capacity']:g} nats)")
    elif "beta" in settings:
        words.append(f"lower beta (now {settings['beta']:g})")
    return ", ".join([*words, "or use a weaker decoder" if words else "use a weaker decoder"])
