"""The verdict on made-up results whose right answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestiary.data.specs import ImageSpec
from bestiary.errors import OptionError
from bestiary.metrics.results import Score
from bestiary.scores import SCORES
from bestiary.study.results import Comparison, Entry, is_bound, show
from bestiary.study.verdict import distinguishable, rank, ranked_scores, verdict


def score(value, error=0.01, protocol="exact"):
    return Score(value, error, 2000, 2000, protocol)


def entry(model, status="finished", reason="", unavailable=None, **scores):
    return Entry(
        model=model, family="latent", paper="", year=2014, run="", parameters=1, examples=1, seconds=1.0,
        status=status, reason=reason, unavailable=unavailable or {}, scores=scores,
    )  # fmt: skip


def compare(*entries, **floors):
    return Comparison(
        data="digits", spec=ImageSpec(1, 8, 8, 17), sizes={}, classes=[], fingerprint="", budget="1 epoch",
        seed=0, split="test", n=2000, entries=entries, command="", versions={}, hardware="", date="",
        seconds_total=1.0, floors=floors,
    )  # fmt: skip


def found(comparison, topic):
    [text] = [finding.text for finding in verdict(comparison) if finding.topic.startswith(topic)]
    return text


def headline(comparison):
    return verdict(comparison)[0].topic


def everything(comparison):
    return " ".join(f"{finding.topic}. {finding.text}" for finding in verdict(comparison))


def test_identical_models_are_not_distinguishable():
    same = {"frechet": score(50.0, 1.0), "prd_f8": score(0.9)}
    comparison = compare(entry("a", **same), entry("b", **same))
    assert found(comparison, "Fréchet") == "a (50.0 ± 1.0) and b (50.0 ± 1.0), not distinguishable."
    assert headline(comparison) == "No model is best by every score"
    assert "a and b, not distinguishable, in Fréchet distance and PRD recall (F8)" in everything(comparison)
    assert rank(comparison, "frechet").best is None


def test_identical_models_without_any_error_are_not_distinguishable():
    comparison = compare(entry("a", frechet=score(50.0, 0.0)), entry("b", frechet=score(50.0, 0.0)))
    assert rank(comparison, "frechet").groups == (("a", "b"),)


@pytest.mark.parametrize(("value", "expected"), [(4.0, False), (4.001, True), (2.0, False), (1.999, True)])
def test_the_threshold_is_two_standard_errors_of_the_difference(value, expected):
    # √(0.3² + 0.4²) = 0.5, so a difference of exactly 1 is not yet larger than its error bar.
    assert distinguishable(score(3.0, 0.3), score(value, 0.4)) is expected
    assert distinguishable(score(value, 0.4), score(3.0, 0.3)) is expected


def test_equal_models_are_separated_at_the_rate_that_the_verdict_states():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 20_000))
    rate = np.mean([distinguishable(score(x, 1.0), score(y, 1.0)) for x, y in zip(a, b, strict=True)])
    assert rate == pytest.approx(0.0455, abs=0.005)
    values = {"frechet": score(1.0), "prd_f8": score(0.5), "bits_per_dim": score(3.0)}
    text = found(compare(*(entry(name, **values) for name in "abc")), "What the error bars")
    assert "9 pairs were compared; if all models were equal" in text
    assert "about 0.41 by chance alone" in text
    assert "not the luck of the seed: every model was trained once" in text


def likelihood(model, nats):
    """An entry whose nats are of so many examples of 8 × 8 pixels."""
    n, mean, error = len(nats), float(nats.mean()), float(nats.std(ddof=1)) / math.sqrt(len(nats))
    bit = 64 * math.log(2)
    scores = {
        "nats": Score(mean, error, n, 0, "exact"),
        "bits_per_dim": Score(mean / bit, error / bit, n, 0, "exact"),
    }
    return replace(entry(model, **scores), nats=nats)


def test_likelihoods_of_the_same_examples_are_compared_in_each_of_them(tmp_path):
    rng = np.random.default_rng(0)
    hard = rng.normal(100, 30, 400)  # that some examples are harder than others is no doubt about the models
    better, worse = hard + rng.normal(0, 1, 400), hard + rng.normal(0.5, 1, 400)
    pair = compare(likelihood("a", better), likelihood("b", worse))
    for comparison in (pair, saved(pair, tmp_path)):
        assert rank(comparison, "nats").best == "a"
        assert rank(comparison, "bits_per_dim").best == "a"
        assert "it is their differences in each that count" in everything(comparison)
    fewer = compare(likelihood("a", better), likelihood("b", worse[:300]))
    without = compare(*(replace(e, nats=None) for e in pair.entries))
    for comparison in (fewer, without):
        assert rank(comparison, "bits_per_dim").groups == (("a", "b"),)


def saved(comparison, folder):
    comparison.save(folder)
    return Comparison.load(folder)


def test_equal_likelihoods_are_separated_in_pairs_at_the_rate_that_the_verdict_states():
    rng, rate = np.random.default_rng(0), 0
    for _ in range(2000):
        hard = rng.normal(100, 30, 50)
        pair = compare(*(likelihood(model, hard + rng.normal(0, 1, 50)) for model in "ab"))
        rate += len(rank(pair, "nats").groups) - 1
    assert 0.03 < rate / 2000 < 0.07


def test_direction_of_each_score():
    low, high = (
        entry("low", frechet=score(10.0), prd_f8=score(0.1)),
        entry("high", frechet=score(90.0), prd_f8=score(0.9)),
    )
    comparison = compare(low, high)
    assert rank(comparison, "frechet").groups == (("low",), ("high",))
    assert rank(comparison, "prd_f8").groups == (("high",), ("low",))
    assert (
        found(comparison, "Fréchet distance, lower is better")
        == "low (10.000 ± 0.010); then high (90.000 ± 0.010)."
    )


def test_ties_that_are_not_transitive_claim_only_what_holds():
    # Neighbours differ by 1.77 standard errors of their difference, the outer ones by 3.5.
    comparison = compare(*(entry(n, frechet=score(v, 0.1)) for n, v in [("a", 1.0), ("b", 1.25), ("c", 1.5)]))
    assert rank(comparison, "frechet").groups == (("a", "b", "c"),)
    assert rank(comparison, "frechet").contenders == ("a", "b")
    assert found(comparison, "Fréchet").endswith("where only a before c is distinguishable.")


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 2) | st.none()), min_size=1, max_size=7))
def test_no_order_is_claimed_between_models_that_are_not_distinguishable(drawn):
    comparison = compare(*(entry(f"m{i}", frechet=score(v, e)) for i, (v, e) in enumerate(drawn)))
    ranking = rank(comparison, "frechet")
    assert sorted(m for group in ranking.groups for m in group) == sorted(f"m{i}" for i in range(len(drawn)))
    for i, group in enumerate(ranking.groups):
        for better in group:
            for worse in (m for later in ranking.groups[i + 1 :] for m in later):
                assert ranking.values[better].value < ranking.values[worse].value
                assert distinguishable(ranking.values[better], ranking.values[worse])
    if len(drawn) > 1:
        assert (ranking.best is not None) == (len(ranking.contenders) == 1)
    assert verdict(comparison)


def test_without_error_bars_no_difference_is_claimed():
    comparison = compare(entry("a", classes_found=score(10, None)), entry("b", classes_found=score(3, None)))
    assert (
        found(comparison, "Classes found")
        == "By value: a (10), b (3). Without error bars no difference is claimed."
    )
    assert found(comparison, "No model is best") == "There are no error bars, so no lead is claimed."
    mixed = compare(entry("a", frechet=score(1.0, math.nan)), entry("b", frechet=score(9.0, 0.1)))
    assert "No difference to a is claimed" in found(mixed, "Fréchet")
    assert rank(mixed, "frechet").best is None


def test_a_winner_is_named_only_if_it_is_best_by_every_score():
    best = {"bits_per_dim": score(2.0), "frechet": score(10.0), "classes_found": score(10, None)}
    worse = {"bits_per_dim": score(3.0), "frechet": score(20.0), "classes_found": score(10, None)}
    won = compare(entry("a", **best), entry("b", **worse))
    assert headline(won) == "a is best by every score that the verdict rests on"
    assert "on these data, at this budget and with this seed" in everything(won)
    lost_one = compare(entry("a", **best), entry("b", **{**worse, "classes_found": score(11, None)}))
    tied_one = compare(entry("a", **best), entry("b", **{**worse, "frechet": score(10.0)}))
    has_no_likelihood = compare(
        entry("a", frechet=score(1.0)),
        entry("b", **worse),
        entry("c", **{**worse, "bits_per_dim": score(4.0)}),
    )
    for comparison in (lost_one, tied_one, has_no_likelihood):
        assert headline(comparison) == "No model is best by every score"


def test_bounds_carry_their_caveat_and_exact_values_do_not():
    exact, bound = score(2.9, 0.01, "exact"), score(3.2, 0.01, "elbo")
    text = found(compare(entry("pixelcnn", bits_per_dim=exact), entry("vae", bits_per_dim=bound)), "Bits")
    assert text.startswith("pixelcnn (2.900 ± 0.010); then vae (≤ 3.200 ± 0.010).")
    assert "Only a bound (≤) is known of vae: the true value may be better" in text
    assert "being ahead of a bound is not being ahead of the true value" in text
    # A bound that is ahead of an exact value is ahead all the more.
    text = found(
        compare(entry("pixelcnn", bits_per_dim=exact), entry("vae", bits_per_dim=score(2.0, 0.01, "elbo"))),
        "Bits",
    )
    assert "being ahead" not in text
    text = everything(compare(entry("a", bits_per_dim=exact), entry("b", bits_per_dim=exact)))
    assert "≤" not in text
    assert "bound" not in text


@pytest.mark.parametrize(
    ("protocol", "bound"),
    [("exact", False), ("elbo", True), ("importance-weighted bound, 64 particles", True), ("", True)],
)
def test_what_does_not_call_itself_exact_is_a_bound(protocol, bound):
    assert is_bound("bits_per_dim", score(3.0, protocol=protocol)) is bound
    assert is_bound("frechet", score(3.0, protocol=protocol)) is False


def test_models_that_did_not_finish_are_named_and_not_ranked():
    comparison = compare(
        entry("a", frechet=score(20.0)),
        entry("b", frechet=score(30.0)),
        entry("c", "diverged", "loss was not finite at example 512", frechet=score(1.0)),
        entry("d", "stopped", frechet=score(2.0)),
    )
    assert found(comparison, "Not ranked").startswith(
        "c diverged (loss was not finite at example 512); d stopped."
    )
    assert list(rank(comparison, "frechet").values) == ["a", "b"]
    assert headline(comparison).startswith("a is best")


def test_models_without_a_score_are_named_with_the_reason():
    comparison = compare(
        entry("vae", bits_per_dim=score(3.0), frechet=score(5.0)),
        entry("ns-gan", frechet=score(4.0), unavailable={"bits_per_dim": "ns-gan has no likelihood"}),
        entry("x", frechet=score(math.nan), bits_per_dim=score(4.0)),
    )
    assert found(comparison, "Bits").endswith(" ns-gan has no likelihood.")
    assert found(comparison, "Fréchet").endswith(" x: the value is not a number.")
    assert "nan" not in everything(comparison).lower()


def test_nothing_to_rank():
    assert (
        found(compare(entry("a", frechet=score(1.0))), "Nothing can be ranked") == "There is only one model."
    )
    failed = entry("b", "diverged", "why")
    assert "Only a finished" in found(
        compare(entry("a", frechet=score(1.0)), failed), "Nothing can be ranked"
    )
    assert "No model finished" in found(compare(failed, entry("c", "diverged")), "Nothing can be ranked")
    apart = compare(entry("a", frechet=score(1.0)), entry("b", bits_per_dim=score(1.0)))
    assert "No two models share a score" in found(apart, "Nothing can be ranked")
    assert found(apart, "Is the order").startswith("That cannot be asked")


def test_distance_to_real_data():
    floor = score(33.0, 4.0)
    far = compare(entry("a", frechet=score(100.0, 3.0)), entry("b", frechet=score(200.0, 3.0)), frechet=floor)
    text = found(far, "Fréchet")
    assert text.endswith(
        "Real data against real data: 33 ± 4. Every model is worse, the closest, a, by 67 ± 5."
    )
    near = compare(entry("a", frechet=score(35.0, 3.0)), entry("b", frechet=score(200.0, 3.0)), frechet=floor)
    text = found(near, "Fréchet")
    assert "a is not distinguishable from that, by this score alone. b is worse by 167 ± 5." in text
    unsure = compare(*far.entries, entry("c", frechet=score(300.0, None)), frechet=floor)
    assert found(unsure, "Fréchet").endswith("a and b are worse, the closest, a, by 67 ± 5.")
    some = compare(*near.entries, entry("c", frechet=score(100.0, 3.0)), frechet=floor)
    assert found(some, "Fréchet").endswith("The others are worse, the closest, c, by 67 ± 5.")
    beyond = compare(entry("a", prd_f8=score(0.99)), entry("b", prd_f8=score(0.5)), prd_f8=score(0.9))
    assert "a is beyond that, which does not mean better than real" in found(beyond, "PRD recall")


@pytest.mark.parametrize(
    ("frechet", "answer"),
    [
        ((1.0, 2.0, 3.0), "Yes, as far as it can be told: the 3 pairs distinguishable under both have"),
        ((3.0, 2.0, 1.0), "No: of the 3 pairs distinguishable under both, 3 in opposite order"),
        ((2.0, 1.0, 3.0), "Not always: of the 3 pairs distinguishable under both, 1 in opposite order"
                          " (likelihood puts a before b, Fréchet b before a)."),
        ((1.0, 1.0, 1.0), "That cannot be told: no pair"),
    ],
)  # fmt: skip
def test_whether_likelihood_and_frechet_agree(frechet, answer):
    bits = (2.0, 3.0, 4.0)
    entries = [
        entry(n, bits_per_dim=score(b), frechet=score(f))
        for n, b, f in zip("abc", bits, frechet, strict=True)
    ]
    assert found(compare(*entries), "Is the order").startswith(answer)


def test_nats_are_not_counted_beside_bits():
    both = compare(*(entry(n, bits_per_dim=score(1.0), nats=score(9.0)) for n in "ab"))
    assert list(ranked_scores(both)) == ["bits_per_dim"]
    assert list(ranked_scores(compare(*(entry(n, nats=score(9.0)) for n in "ab")))) == ["nats"]


def test_only_main_scores_speak_unless_there_are_none():
    best, worse = {"frechet": score(1.0), "kernel": score(9.0)}, {"frechet": score(2.0), "kernel": score(1.0)}
    comparison = compare(entry("a", **best), entry("b", **worse))
    assert headline(comparison) == "a is best by every score that the verdict rests on"
    assert "ernel" not in everything(comparison)
    assert "the others have a table of their own" in everything(comparison)
    alone = compare(entry("a", kernel=score(9.0)), entry("b", kernel=score(1.0)))
    assert headline(alone).startswith("b is best")
    assert "of their own" not in everything(alone)
    twins = {"bits_per_dim": score(3.0), "elbo_bits_per_dim": score(3.1)}
    assert "of their own" not in everything(compare(entry("a", **twins), entry("b", **twins)))


def test_memorisation_is_judged_against_real_data_and_never_ranked():
    entries = entry("copies", memorisation=score(0.9)), entry("draws", memorisation=score(0.5))
    comparison = compare(*entries, memorisation=score(0.5))
    assert "closer to training images than that: copies (0.900 ± 0.010)." in found(comparison, "Memorisation")
    assert "memorisation" not in ranked_scores(comparison)
    honest = compare(entries[1], entry("other", memorisation=score(0.4)), memorisation=score(0.5))
    assert found(honest, "Memorisation").endswith("No model is distinguishably above that.")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (2.9134, 0.0123, "2.913 ± 0.012"),
        (0.82, 0.006, "0.820 ± 0.006"),
        (0.82, 0.0098, "0.820 ± 0.010"),
        (1753.6, 7.1, "1754 ± 7"),
        (1034.2, 124.0, "1034 ± 124"),
        (10, None, "10"),
        (0.12345, math.nan, "0.1235"),
        (3.0, 0.0, "3 ± 0"),
        (-1.5, 0.2, "-1.50 ± 0.20"),
        (math.inf, 0.1, "not a number"),
    ],
)
def test_numbers_are_shown_as_far_as_their_error_bar_reaches(value, error, text):
    assert show(score(value, error)) == text


def test_two_models_of_one_name_are_refused():
    with pytest.raises(OptionError, match="models: found 'a' twice, wanted every model under its own name"):
        compare(entry("a"), entry("a"))


def test_every_score_is_explained():
    for info in SCORES.values():
        assert info.title
        assert info.meaning.endswith(".")
