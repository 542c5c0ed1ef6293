"""What a metric returns: a number that says how sure it is and how it was measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """A metric's value with its error bar and its full name.

    Attributes:
        value: the number.
        error: one standard error of `value` from the finite samples, or None where it is not defined.
        n_real: number of real examples that went in.
        n_fake: number of generated examples that went in; 0 where none are needed (likelihoods).
        protocol: the metric's full name: metric, embedding, sample sizes, treatment.
    """

    value: float
    error: float | None
    n_real: int
    n_fake: int
    protocol: str
