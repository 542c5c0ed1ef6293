"""The analysis, the verdict and the report of made-up studies whose right answer is known."""

import csv
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from bestiary.cli.commands.study_report import study_report
from bestiary.errors import RunError
from bestiary.report import write_study_report
from bestiary.study.analysis.analysis import analyse
from bestiary.study.analysis.verdict import amount, study_verdict
from studies import results, retrained, score, simulated, trial
from test_report import NASTY, Document, figures

LAWS = {"near": (40.0, 0.3, 0.0, 2e14), "shaky": (42.0, 0.5, 0.25, 1e14), "far": (95.0, 0.1, 0.0, 5e14)}


def normal(arm, mean, n=12, seed=0, sd=1.0, **changed):
    values = np.random.default_rng(seed).normal(mean, sd, n)
    return [trial(arm, i, float(value), **changed) for i, value in enumerate(values)]


def said(study, topic=""):
    return " ".join(
        f"{found.topic}. {found.text}" for found in study_verdict(analyse(study)) if topic in found.topic
    )


def read(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def headline(study):
    return study_verdict(analyse(study))[0].topic


@pytest.fixture(scope="module")
def study():
    return simulated(16, arms=LAWS)


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("study")
    study.save(path)
    pictures = path / "retrained" / "near" / "0" / "samples"
    pictures.mkdir(parents=True)
    Image.new("L", (8, 8)).save(pictures / "00320000.png")
    write_study_report(study, path)
    return path


@pytest.fixture(scope="module")
def html(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def test_equal_arms_are_not_told_apart():
    again = [retrained(arm, s, fid=20.0 + s) for arm in "abc" for s in range(3)]
    study = results(
        [t for i, arm in enumerate("abc") for t in normal(arm, 50, seed=i)], retrained=tuple(again)
    )
    analysis = analyse(study)
    assert headline(study) == "No arm is told apart from another"
    assert set(analysis.draws[1].letters.values()) == {"a"}
    assert analysis.winners["fid"].groups == (("a", "b", "c"),)
    assert "told apart from it" not in said(study)
    assert "where" not in said(study, "re-trained winners")


def watched(arm, number, scores):
    """A trial that was scored at 1/9, 1/3 and the whole of its budget."""
    spent = [{"flops": share * 9e13} for share in (1 / 9, 1 / 3, 1)]
    rungs = [
        {"share": share, "score": value, "spent": amount}
        for share, value, amount in zip((1 / 9, 1 / 3, 1), scores, spent, strict=True)
    ]
    return replace(trial(arm, number, scores[-1], flops=9e13), rungs=rungs)


def test_rungs_tell_who_is_ahead_when_and_what_halving_would_have_found(tmp_path):
    early = [watched("early", i, (20 + i, 19 + i, 18 + i)) for i in range(9)]
    late = [
        watched("late", i, (50 - i, 30 + i, 10 + i)) for i in range(9)
    ]  # the last one looks best at first
    study = results([*early, *late, *(watched("flat", i, (30, 29, 28)) for i in range(9))])
    rungs = analyse(study).rungs
    assert rungs.best["late"] == (42, 30, 10)
    assert [rungs.ahead(i, False) for i in range(3)] == ["early", "early", "late"]
    assert [found.tau for found in rungs.agreement] == pytest.approx([-1 / 3, -1 / 3])
    # three of nine go on from 1/9, one of them from 1/3
    assert all(h.cost == pytest.approx((6 * 1 / 9 + 2 * 1 / 3 + 1) / 9) for h in rungs.halved.values())
    assert (rungs.halved["early"].score, rungs.halved["early"].behind) == (18, 0)
    assert (rungs.halved["late"].score, rungs.halved["late"].behind) == (16, pytest.approx(0.6))
    assert "after 1/9 early's, after 1/3 early's, and at the end late's" in said(
        study, "depend on the budget"
    )
    page = write_study_report(study, tmp_path).read_text(encoding="utf-8")
    assert "At parts of the budget" in page
    assert [row["behind"] for row in read(tmp_path / "tables" / "rungs.csv")] == ["0.0", "0.6", "0.0"]


def test_rungs_where_trials_were_given_up_say_nothing():
    rows = [watched("a", i, (20 + i, 19 + i, 18 + i)) for i in range(4)]
    assert analyse(results(rows)).rungs is not None
    halted = replace(rows[3], status="halted", rungs=rows[3].rungs[:1])
    assert analyse(results([*rows[:3], halted])).rungs is None


def test_an_arm_is_best_only_if_it_is_by_every_measure():
    draws = [*normal("a", 20), *normal("b", 50), *normal("c", 60)]
    wins = tuple(retrained(arm, s, fid=mean + s / 10) for arm, mean in zip("abc", (20, 50, 60), strict=True)
                 for s in range(3))  # fmt: skip
    study = results(draws, retrained=wins)
    assert headline(study) == "a is best by every measure"
    assert analyse(study).draws[1].groups == (("a",), ("b",), ("c",))
    turned = tuple(replace(row, scores={"fid": score(90.0 - row.scores["fid"]["value"])}) for row in wins)
    assert headline(replace(study, retrained=turned)) == "No arm is best by every measure"
    assert "a by a single draw" in said(replace(study, retrained=turned))
    one_seed = tuple(row for row in wins if row.seed == 0)
    assert headline(replace(study, retrained=one_seed)) == "No arm is best by every measure"
    assert "One seed has no spread, so no difference is claimed." in said(replace(study, retrained=one_seed))


def test_where_larger_scores_are_better_everything_is_turned_round():
    def study(sign):
        draws = [*normal("a", 20 * sign), *normal("b", 50 * sign, seed=1), *normal("c", 52 * sign, seed=2)]
        if sign < 0:
            draws = [
                replace(t, score=-t.score)
                for t in (*normal("a", 20), *normal("b", 50, seed=1), *normal("c", 52, seed=2))
            ]
        return results(draws, maximise=sign < 0, score="prd_f8" if sign < 0 else "frechet")

    low, high = analyse(study(1)), analyse(study(-1))
    assert low.draws[1].names == high.draws[1].names
    assert low.draws[1].wins == high.draws[1].wins
    for one, two in zip(low.arms, high.arms, strict=True):
        assert one.best.number == two.best.number
        for name in ("expected", "median"):
            assert np.allclose(getattr(one.curve, name), -getattr(two.curve, name))
        assert np.allclose(one.curve.lower, -two.curve.upper, equal_nan=True)
        assert np.allclose(one.bootstrap[1], -two.bootstrap[2])
    assert [lead.arms for lead in low.leads] == [lead.arms for lead in high.leads]


def test_draws_without_a_score_count_as_the_worst():
    lost = [trial("b", i, None, "diverged", reason="not finite") for i in range(8, 12)]
    study = results([*normal("a", 50, seed=1), *normal("b", 50, n=8), *lost])
    arm = analyse(study).arm("b")
    assert (arm.finished, arm.lost) == (8, {"diverged": 4})
    assert np.isinf(arm.curve.expected[:4]).all()
    assert np.isfinite(arm.curve.expected[4:]).all()
    [duel] = [d for d in analyse(study).duels if d.k == 1]
    beaten = np.mean([[x.score < y.score for y in study.of("b")[:8]] for x in study.of("a")])
    assert duel.pair.chance == pytest.approx((8 * beaten + 4) / 12)
    assert "b 4 of 12 (diverged). They count as the worst" in said(study)
    # A score of a draw that did not finish does not count.
    halted = replace(
        study, trials=tuple(replace(t, status="halted") if t.arm == "b" else t for t in study.trials)
    )
    assert analyse(halted).arm("b").best is None


def test_a_seed_without_a_score_forbids_a_claim():
    again = [retrained("a", s, fid=10.0 + s / 10) for s in range(3)] + [
        retrained("b", s, fid=90.0 + s / 10) for s in range(2)
    ]
    study = results(
        [*normal("a", 50), *normal("b", 50)], retrained=(*again, retrained("b", 2, status="diverged"))
    )
    analysis = analyse(study)
    assert (analysis.arm("b").retrained["fid"].failed, len(analysis.arm("b").retrained["fid"].values)) == (
        1,
        2,
    )
    assert not analysis.winners["fid"].wins
    assert "No score: b in 1 of 3; no difference to an arm with a failed seed is claimed." in said(study)


@pytest.mark.parametrize("changed", [{"search": "tpe"}, {"halted": True}])
def test_draws_that_are_not_independent_get_no_band_and_no_comparison(changed):
    trials = [*normal("a", 20), *normal("b", 50)]
    if changed.pop("halted", False):
        trials[3] = replace(trials[3], status="halted", score=None)
    analysis = analyse(results(trials, **changed))
    assert (analysis.ks, analysis.duels, dict(analysis.draws)) == ((), (), {})
    assert all(arm.curve.defined == 0 and not arm.effects for arm in analysis.arms)
    text = said(analysis.results)
    assert "no comparison of draws is valid" in text
    assert "told apart by" not in text
    assert headline(analysis.results) == "Nothing can be put in order"


def test_the_lead_is_found_by_draws_and_by_compute():
    # One draw of b costs as much as four of a.
    a = [trial("a", i, value, flops=1e14) for i, value in enumerate([60.0, 50.0, 40.0, 30.0])]
    b = [trial("b", i, value, flops=4e14) for i, value in enumerate([46.0, 36.0, 26.0, 20.0])]
    analysis = analyse(results([*a, *b]))
    assert [(lead.arms, lead.start, lead.end) for lead in analysis.leads] == [(("b",), 1, 4)]
    assert analysis.unit == "flops"
    # From the cost of the dearest draw to the cost of all draws of the cheaper arm: the best of 4 against 1.
    assert [(lead.arms, lead.start) for lead in analysis.compute_leads] == [(("a",), pytest.approx(4e14))]
    assert "b leads to k = 4" in said(analysis.results)
    assert "By compute, from what pays for a draw of every arm: a leads from 400 TFLOP." in said(
        analysis.results
    )


def test_a_lead_that_changes_is_told():
    a = [trial("a", i, 40.0 + i / 100) for i in range(8)]
    b = [trial("b", i, value) for i, value in enumerate([30.0, 31.0, 60.0, 61.0, 62.0, 63.0, 64.0, 65.0])]
    text = said(results([*a, *b]), "budget")
    assert "a leads for k = 1 to 2; b leads for k = 3 to 8" in text
    assert "Beyond k = 1 there are too few draws for a band" in text


def test_effects_are_corrected_over_the_whole_study():
    study = simulated(40, arms=LAWS)
    analysis = analyse(study)
    assert "learning_rate in" in said(study, "hyper-parameters")
    alone = analyse(replace(study, arms=("near",))).arm("near").effects
    together = analysis.arm("near").effects
    assert all(together[name].p >= alone[name].p for name in alone)
    assert together["learning_rate"].p > alone["learning_rate"].p


def test_agreement_turns_scores_so_that_one_means_agreement():
    trials = [
        trial("a", i, 10.0 + i, scores={"prd_f8": score(0.9 - i / 50), "kernel": score(5.0 - i)})
        for i in range(9)
    ]
    analysis = analyse(results(trials))
    assert analysis.agreement["prd_f8"].tau == pytest.approx(1.0)  # higher is better
    assert analysis.agreement["kernel"].tau == pytest.approx(-1.0)  # lower is better


def test_order_on_other_data():
    arms = "abcde"
    here = [retrained(arm, s, fid=10.0 * i + s) for i, arm in enumerate(arms) for s in range(2)]
    there = [
        retrained(arm, s, "mnist", fid=50.0 - 10 * i + s) for i, arm in enumerate(arms) for s in range(2)
    ]
    study = results(
        [t for arm in arms for t in normal(arm, 50)], retrained=tuple(here), elsewhere=tuple(there)
    )
    assert analyse(study).elsewhere["mnist"]["fid"].tau == pytest.approx(-1.0)
    assert "FID: τ = -1.00 (p = 0.017, 5 arms)." in said(study, "mnist")


def test_a_study_that_is_not_finished_says_so():
    study = results([*normal("a", 50), *normal("b", 50, n=3)], arms=("a", "b", "c"))
    assert "b has 3 of 12 draws; c has 0 of 12 draws" in said(study, "not finished")
    assert [arm.name for arm in analyse(study).arms] == ["a", "b"]
    with pytest.raises(RunError, match="first: found no draw yet"):
        analyse(replace(study, trials=()))


def test_one_arm_is_not_put_in_order():
    study = results(normal("a", 50))
    assert headline(study) == "Nothing can be put in order"
    assert "There is only one arm." in said(study)


def test_no_number_that_is_missing_is_said(study):
    for made in (
        study,
        results([trial("a", 0, None, "failed", reason="out of memory"), *normal("b", 5, n=2)]),
    ):
        assert not re.search(r"\b(nan|inf|None)\b", said(made))


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(1.2e15, "flops", "1.2 PFLOP"), (500.0, "flops", "500 FLOP"), (90.0, "seconds", "1.5 min"),
     (7200.0, "seconds", "2 h"), (5000.0, "updates", "5,000 updates")],
)  # fmt: skip
def test_amounts(value, unit, words):
    assert amount(value, unit) == words


def test_nothing_outside_the_page_is_referred_to(html):
    document = Document(html)
    for tag, attributes in document.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset"}:
                assert value.startswith(("#", "data:image/png;base64,"))
    identifiers = [a["id"] for _, a in document.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html)
    assert {a or b for a, b in used} <= set(identifiers)


def test_the_page_has_every_part_in_order_and_no_missing_number(html):
    order = "verdict table curves draws winners sensitivity agreement elsewhere samples spent repeat"
    assert re.findall(r'<section id="(\w+)"', html) == order.split()
    text = Document(html).text
    assert not re.search(r"\b(nan|NaN|inf|None)\b", text)
    for words in ("first: 3 arms on fashion-mnist", "bestiary study run first.yaml", "learning_rate",
                  "The best of 3 draws", "generator/loss was not finite", "of 1e-05 to 0.01"):  # fmt: skip
        assert words in text, words
    assert html.count("Samples of near") == 1


def test_figures_are_described_and_valid_both_in_the_page_and_as_files(html, folder):
    drawn = figures(html)
    assert len(drawn) >= 2 + 3 + 1 + 3 + 1 + 1
    for svg in drawn:
        assert ET.fromstring(svg).attrib["aria-label"]
    files = sorted((folder / "figures").glob("*.svg"))
    assert {"best-of-k.svg", "best-of-k-by-compute.svg", "bands-near.svg", "draws.svg"} <= {
        f.name for f in files
    }
    for path in files:
        content = path.read_text(encoding="utf-8")
        assert ET.fromstring(content).tag.endswith("svg")
        assert "var(" not in content  # drawing programs do not know variables
        assert "nan" not in content
    assert "near" in (folder / "figures" / "best-of-k.svg").read_text()  # a file of its own has a key


def test_tables_agree_in_every_format(study, folder):
    for name in ("arms", "draws", "best-of-k", "pairs", "winners", "matches", "sensitivity", "agreement"):
        rows = read(folder / "tables" / f"{name}.csv")
        content = json.loads((folder / "tables" / f"{name}.json").read_text(encoding="utf-8"))
        assert len(rows) == len(content["rows"]) > 0
        for row, plain in zip(rows, content["rows"], strict=True):
            assert row == {key: "" if value is None else str(value) for key, value in plain.items()}
        tex = (folder / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        lines = tex.split("\\midrule\n")[1].split("\\bottomrule")[0].strip().split("\n")
        assert len(lines) == len(rows)
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(rows[0]) - 1}
        assert not re.search(r"(?<!\\)[_%#]", tex)
    draws = read(folder / "tables" / "draws.csv")
    assert len(draws) == len(study.trials)
    assert float(draws[0]["selection_frechet"]) == study.trials[0].score
    curve = [row for row in read(folder / "tables" / "best-of-k.csv") if row["arm"] == "far"]
    assert float(curve[-1]["median"]) == min(t.score for t in study.of("far"))
    assert [bool(row["lower"]) for row in curve] == [True] * 3 + [False] * 13


def test_equal_results_give_equal_files_and_survive_being_stored(study, folder, tmp_path):
    loaded = type(study).load(folder)
    assert loaded == study or analyse(loaded).duels == analyse(study).duels
    again = write_study_report(loaded, tmp_path)
    without_picture = re.compile(
        r'<section id="samples">.*?</section>|<a href="#samples">Samples</a>', re.DOTALL
    )
    first = (folder / "report.html").read_text(encoding="utf-8")
    assert (
        without_picture.sub("", first).split()
        == without_picture.sub("", again.read_text(encoding="utf-8")).split()
    )
    for path in sorted((folder / "figures").iterdir()):
        assert path.read_bytes() == (tmp_path / "figures" / path.name).read_bytes()


def test_a_hostile_name_stays_text(tmp_path):
    nasty = NASTY.replace("/", "")
    study = results([*normal("a", 50, n=3), *normal("b", 60, n=3)], name=nasty, data=nasty, budget=nasty,
                    models={"a": nasty, "b": "b"}, command=nasty)  # fmt: skip
    html = write_study_report(study, tmp_path).read_text(encoding="utf-8")
    assert not any(tag == "script" for tag, _ in Document(html).elements)


def test_what_is_missing_is_left_out(tmp_path):
    study = results([trial("a", 0, None, "failed", reason="out of memory"), trial("b", 0, 5.0)])
    html = write_study_report(study, tmp_path).read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', html) == [
        "verdict",
        "table",
        "curves",
        "draws",
        "spent",
        "repeat",
    ]
    assert not re.search(r"\b(nan|inf|None)\b", Document(html).text)


def test_the_command_writes_the_report_and_prints_the_verdict(tmp_path):
    app = Typer()
    app.command()(study_report)
    study = results([*normal("a", 50, n=3), *normal("b", 60, n=3)])
    study.save(tmp_path)
    shown = CliRunner().invoke(app, [str(tmp_path)])
    assert shown.exit_code == 0
    assert f"\n{headline(study)}\n" in shown.stdout
    assert shown.stdout.rstrip().endswith(str(tmp_path / "report.html"))
    told = json.loads(CliRunner().invoke(app, [str(tmp_path), "--json"]).stdout)
    assert told["report"] == str(tmp_path / "report.html")
    assert next(iter(told["verdict"])) == headline(study)
    wrong = CliRunner().invoke(app, [str(tmp_path / "nowhere")])
    assert isinstance(wrong.exception, RunError)
