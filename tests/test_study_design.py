"""The study file, spaces and draws: what is said is what is drawn, and mistakes are told in one line."""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from bestiary.catalogue import create
from bestiary.data.specs import ImageSpec
from bestiary.errors import BestiaryError, OptionError
from bestiary.study.analysis.trials import promoted
from bestiary.study.plan.design import Halving
from bestiary.study.plan.schema import make_study
from bestiary.study.plan.spaces import Choices, Range
from bestiary.study.plan.study_file import presets, read_study
from bestiary.study.search.draws import Told, ask, random_draw, trial_seed
from bestiary.study.search.halving import cost, draws, quota, shares

PLAIN = {"data": "digits", "budget": "30 rounds", "arms": ["vae", "ns-gan"], "draws": 6}


def study(**changes: object) -> dict[str, object]:
    return {**PLAIN, **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ["vea"]}, "unknown model 'vea': did you mean"),
        ({"arms": []}, "arms: found [], wanted names of models"),
        ({"arms": ["vae", "vae"]}, "arms: found 'vae' twice"),
        ({"arms": {"a/b": {"model": "vae"}}}, "arms: a/b: found a name that fits no folder"),
        ({"arms": {"vae": {"settings": {"latent": 3}}}}, "unknown option of arms: vae 'latent'"),
        ({"arms": {"vae": {"seting": {}}}}, "unknown option of arms: vae 'seting': did you mean 'settings'?"),
        ({"arms": {"vae": {"space": {"lerning_rate": [1]}}}}, "did you mean 'learning_rate'?"),
        ({"arms": {"vae": {"space": {"latent_dim": {"low": 4, "high": 2}}}}}, "found low 4 and high 2"),
        (
            {"arms": {"vae": {"space": {"learning_rate": {"low": 0, "high": 1, "log": True}}}}},
            "0 < low < high",
        ),
        ({"arms": {"vae": {"space": {"latent_dim": {"low": 1.5, "high": 2}}}}}, "found 1.5, wanted a whole"),
        ({"arms": {"vae": {"space": {"latent_dim": [0]}}}}, "space of latent_dim: latent_dim: found 0"),
        ({"arms": {"ns-gan": {"space": {"beta1": {"low": 0, "high": 2}}}}}, "beta1: found 2.0, wanted a"),
        ({"arms": {"vae": {"space": {"latent_dim": 3}}}}, "wanted {low, high, log} or a list of choices"),
        ({"common": {"chanels": 8}}, "unknown option of any arm 'chanels': did you mean 'channels'?"),
        ({"budget": "5 epocs"}, "did you mean 'epochs'?"),
        ({"draws": 0}, "draws: found 0, wanted a whole number ≥ 1"),
        ({"drawss": 3}, "unknown option of study 'drawss': did you mean 'draws'?"),
        ({"selection": "fretchet"}, "unknown score of selection 'fretchet': did you mean 'frechet'?"),
        ({"selection": "active_units"}, "of which neither more nor less is better"),
        ({"selection": {"score": "frechet", "embedding": "pixel"}}, "did you mean 'pixels'?"),
        ({"search": {"method": "tpes"}}, "did you mean 'tpe'?"),
        ({"halving": {"factor": 1}}, "factor: found 1, wanted a whole number ≥ 2"),
        ({"halving": {"saved": "draws", "stop": False}}, "'draws' with stop=false, which saves nothing"),
        ({"report": {"metrics": ["fidd"]}}, "unknown metric 'fidd'"),
        ({"base": "lucic"}, "unknown base of study 'lucic'"),
        ({"base": "lucic-wide", "common": 5}, "common: found 5, wanted options and their values"),
        ({"base": "lucic-wide", "arms": {"ns-gan": {"settings": 5}}}, "settings: found 5"),
        ({"base": "lucic-wide", "arms": [["vae"]]}, "arms: found [['vae']], wanted names of models"),
        ({"arms": [["vae"]]}, "arms: found ['vae'] in the list, wanted names"),
        ({"seed": 2**63}, "seed: found 9223372036854775808"),
        ({"draws": True}, "draws: found True, wanted a whole number"),
        ({"name": "a/../../b"}, "name: found 'a/../../b', which fits no folder"),
    ],
)
def test_mistakes_are_one_line(changes: dict[str, object], words: str) -> None:
    with pytest.raises(BestiaryError) as caught:
        read_study(study(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match=r"wanted a YAML file or one of the presets lucic-narrow, lucic-wide"
    ):
        read_study(tmp_path / "nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("arms: [vae")
    with pytest.raises(OptionError, match="is no YAML"):
        read_study(tmp_path / "broken.yaml")
    (tmp_path / "twice.yaml").write_text("data: digits\nbudget: 3 rounds\narms:\n  vae:\n  vae:\n")
    with pytest.raises(OptionError, match="is no YAML: found 'vae' twice"):
        read_study(tmp_path / "twice.yaml")


def test_a_study_says_in_full_what_it_is() -> None:
    first = read_study(study(halving=True, elsewhere=[{"source": "ring", "options": {"modes": 5}}]))
    again = make_study(yaml.safe_load(yaml.safe_dump(first.to_plain(), sort_keys=False)))
    assert again == first


def test_settings_go_from_preset_to_common_to_arm() -> None:
    found = read_study(
        study(
            preset="paper",
            common={"latent_dim": 7, "channels": 16},
            arms={"vae": {"settings": {"channels": 8}}, "ns-gan": None},
        )
    )
    vae, gan = found.arms
    assert (vae.settings["latent_dim"], vae.settings["channels"], vae.settings["batch_size"]) == (7, 8, 100)
    assert (gan.settings["latent_dim"], gan.settings["channels"]) == (7, 16)


def test_spaces_come_from_the_constructor_and_are_changed_by_study_and_arm() -> None:
    default = read_study(study(arms=["ns-gan", "wgan"]))
    gan, wgan = default.arms
    # The clipping and the penalty of other games are switched off, and stay so.
    assert set(gan.space) == {"learning_rate", "beta1"}
    assert set(wgan.space) == {"clip", "learning_rate", "beta1"}
    assert gan.space["learning_rate"] == Range(1e-5, 1e-2, log=True)
    beta1 = gan.space["beta1"]
    assert isinstance(beta1, Range)
    assert (beta1.low, beta1.high) == (0.0, math.nextafter(1, 0))  # Adam's are below 1
    arms = {"ns-gan": {"space": {"beta1": None, "latent_dim": [2, 3]}}, "spherical-vae": None}
    found = read_study(study(arms=arms, space={"learning_rate": {"low": 1e-4, "high": 1e-3}, "beta1": [0.5]}))
    assert found.arm("ns-gan").space == {"latent_dim": Choices((2, 3)), "learning_rate": Range(1e-4, 1e-3)}
    assert found.arm("spherical-vae").space == {"learning_rate": Range(1e-4, 1e-3)}


def test_the_default_is_the_first_draw_and_the_others_are_inside() -> None:
    found = read_study(study(arms={"vae": {"space": {"latent_dim": {"low": 1, "high": 4}, "kl": ["auto"]}}}))
    arm = found.arms[0]
    assert ask(found, arm, 0, [], []) == {name: arm.settings[name] for name in arm.space}
    drawn = [random_draw(0, arm, number) for number in range(1, 4001)]
    rates = np.array([d["learning_rate"] for d in drawn])
    assert rates.min() >= 1e-5
    assert rates.max() <= 1e-2
    # log-uniform: uniform in log space, which a uniform draw would fail by far
    assert stats.kstest((np.log10(rates) + 5) / 3, "uniform").pvalue > 1e-3
    counts = np.bincount([d["latent_dim"] for d in drawn], minlength=5)
    assert counts[0] == 0  # whole numbers, both ends as often as the others
    assert stats.chisquare(counts[1:]).pvalue > 1e-3


def test_a_draw_depends_on_nothing_but_seed_arm_number_and_option() -> None:
    first = read_study(study(arms=["vae", "ns-gan"]))
    other = read_study(study(arms={"ns-gan": {"space": {"latent_dim": [1, 2]}}}, draws=9))
    one, two = first.arm("ns-gan"), other.arm("ns-gan")
    for number in range(1, 5):
        a, b = ask(first, one, number, [], []), ask(other, two, number, [], [])
        assert a == {name: b[name] for name in a}
        assert trial_seed(first, one, number) == trial_seed(other, two, number)
    assert random_draw(0, one, 1) != random_draw(1, one, 1)
    assert random_draw(0, one, 1) != random_draw(0, one, 2)


NAMES = ["learning_rate", "beta1", "beta2", "discriminator_updates", "batch_norm", "penalty_weight"]
IMAGES = ImageSpec(1, 28, 28)


@pytest.mark.parametrize("name", presets())
def test_presets_are_the_paper(name: str) -> None:
    found = read_study(name)
    assert [arm.name for arm in found.arms] == [
        "minimax-gan", "ns-gan", "lsgan", "wgan", "wgan-gp", "dragan", "began", "vae"
    ]  # fmt: skip
    wide = name == "lucic-wide"
    assert found.draws == (100 if wide else 50)
    gan, wgan = found.arm("ns-gan"), found.arm("wgan")
    assert gan.space["learning_rate"] == (
        Range(1e-5, 1e-2, log=True) if wide else Range(1e-4, 1e-3, log=True)
    )
    assert wgan.space["clip"] == Range(1e-3 if wide else 1e-2, 1.0, log=True)
    assert (gan.settings["learning_rate"], gan.settings["beta1"]) == (5e-5, 0)
    assert "beta1" not in wgan.space
    defaults = {
        arm.name: [create(arm.model, spec=IMAGES, **arm.settings).settings.get(name) for name in NAMES]
        for arm in found.arms
    }
    assert defaults == {
        "minimax-gan": [5e-5, 0.0, 0.999, 1, True, None],
        "ns-gan": [5e-5, 0.0, 0.999, 1, True, None],
        "lsgan": [2e-4, 0.5, 0.999, 1, True, None],
        "wgan": [5e-5, 0.0, 0.999, 5, True, None],
        "wgan-gp": [1e-4, 0.5, 0.999, 5, False, 10.0],
        "dragan": [1e-4, 0.5, 0.999, 1, True, 10.0],
        "began": [1e-4, 0.5, 0.999, 5, False, None],
        "vae": [5e-5, 0.5, None, None, "both", None],
    }
    variants = ["wgan-adam", "lsgan-lucic", "dragan-lucic", "began-lucic"]
    variant, *others = read_study({"base": name, "arms": variants, "draws": 2}).arms
    for other in others:
        usual = found.arm(str(other.model))
        assert other.settings == {**usual.settings, "departures": "lucic"}
        assert other.space == usual.space
    assert (variant.model, variant.settings["optimizer"]) == ("wgan", "adam")
    assert "beta1" in variant.space


def test_a_file_goes_over_its_base() -> None:
    found = read_study(
        {
            "base": "lucic-wide",
            "arms": {"vae": {"settings": {"likelihood": "auto"}}},
            "common": {"channels": 32},
        }
    )
    (arm,) = found.arms
    assert (arm.settings["likelihood"], arm.settings["learning_rate"]) == ("auto", 5e-5)
    assert (arm.settings["channels"], arm.settings["network"], found.budget) == (
        32, "infogan", "15625 discriminator updates"
    )  # fmt: skip


def test_tpe_goes_where_scores_are_good_and_has_no_memory_of_its_own() -> None:
    found = read_study(study(arms=["vae"], draws=40, search="tpe"))
    arm = found.arms[0]

    def search() -> list[float]:
        told: list[Told] = []
        for number in range(40):
            drawn = ask(found, arm, number, told, [])
            loss = (math.log10(drawn["learning_rate"]) + 4) ** 2
            told.append(Told(drawn, None if loss > 3.5 else (loss,)))  # the far end diverges
        return [math.log10(one.drawn["learning_rate"]) for one in told]

    rates = search()
    assert rates == search()
    later = np.abs(np.array(rates[20:]) + 4)
    assert np.median(later) < 0.25  # at random it is 0.75
    assert np.array_equal(
        rates[1:11], [math.log10(random_draw(0, arm, n)["learning_rate"]) for n in range(1, 11)]
    )


def test_tpe_of_two_scores_covers_what_lies_between_their_optima() -> None:
    found = read_study(
        study(arms=["vae"], draws=40, search={"method": "tpe", "scores": ["frechet", "prd_f8"]})
    )
    told: list[Told] = []
    for number in range(40):
        drawn = ask(found, found.arms[0], number, told, [])
        x = math.log10(drawn["learning_rate"])
        told.append(Told(drawn, ((x + 4) ** 2, -((x + 3) ** 2))))  # less of the first, more of the second
    x = np.array([math.log10(one.drawn["learning_rate"]) for one in told[15:]])
    assert np.mean((x > -4.2) & (x < -2.8)) > 0.7  # at random it is 0.47


def test_tpe_keeps_away_from_what_is_being_tried() -> None:
    found = read_study(study(arms=["vae"], draws=30, search="tpe"))
    arm = found.arms[0]
    told = [
        Told(drawn, ((math.log10(drawn["learning_rate"]) + 4) ** 2,))
        for drawn in (random_draw(0, arm, number) for number in range(1, 20))
    ]
    alone = ask(found, arm, 20, told, [])
    beside = ask(found, arm, 20, told, [alone] * 5)
    assert alone == ask(found, arm, 20, told, [])
    assert alone != beside


def test_halving_counts_what_it_spends() -> None:
    plan = Halving()
    assert shares(plan) == (1 / 9, 1 / 3, 1)
    assert [quota(8, rung, plan) for rung in range(3)] == [8, 3, 1]
    assert cost(8, plan) == pytest.approx(8 / 9 + 3 * 2 / 9 + 2 / 3)
    assert cost(8, None) == 8
    found = read_study(study(draws=8, halving={"saved": "draws"}))
    n = draws(found)
    assert cost(n, found.halving) <= 8 < cost(n + 1, found.halving)
    assert draws(read_study(study(draws=8, halving=True))) == 8


def test_only_scored_trials_are_promoted_and_the_earlier_of_equals() -> None:
    scores = {0: 2.0, 1: None, 2: 1.0, 3: 1.0, 4: 5.0}
    assert promoted(scores, 2, maximise=False) == [2, 3]
    assert promoted(scores, 1, maximise=False) == [2]
    assert promoted(scores, 1, maximise=True) == [4]
    assert promoted({0: None, 1: None}, 1, maximise=False) == []
