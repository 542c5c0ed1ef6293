"""Models. `base` is the page to read first; each family has a folder, each idea a file."""

from bestiary.data.splits import Batch
from bestiary.models.base import (
    Clock,
    ClosedForm,
    Completer,
    Critic,
    Encoder,
    LatentLikelihood,
    Likelihood,
    LikelihoodBound,
    Model,
    Move,
    Player,
    Sampler,
    Step,
    Translator,
)

__all__ = [
    "Batch",
    "Clock",
    "ClosedForm",
    "Completer",
    "Critic",
    "Encoder",
    "LatentLikelihood",
    "Likelihood",
    "LikelihoodBound",
    "Model",
    "Move",
    "Player",
    "Sampler",
    "Step",
    "Translator",
]
