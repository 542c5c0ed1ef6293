"""The report: one file that refers to nothing outside itself, and says what the results say."""

import base64
import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from bestiary.data.specs import ImageSpec, PointSpec
from bestiary.errors import RunError
from bestiary.metrics.results import Score
from bestiary.report import write_report
from bestiary.report.comparison import render
from bestiary.report.figures import look, visible
from bestiary.report.images import grid, pair_grid
from bestiary.report.page import duration
from bestiary.study.results import Comparison, Entry, Progress

NASTY = "<script>alert('x')</script> & \"q\" $x_1$ @0@ é\x00"
VOID = {"meta", "img", "br", "link", "path"}


def score(value, error=0.01, protocol="exact, test"):
    return Score(value, error, 2000, 2000, protocol)


def images(n, channels=1, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, size, size), dtype=np.uint8)


def entry(model, seed=0, channels=1, **changed):
    samples = images(20, channels, seed=seed)
    return Entry(**{
        "model": model, "family": "latent", "paper": "A Paper (Author et al.)", "year": 2014,
        "run": f"runs/{model}", "parameters": 1_234_567, "examples": 50_000, "seconds": 65.0,
        "updates": {"generator": 10, "discriminator": 50}, "flops": 2.13e15, "arithmetic": "bfloat16",
        "sampling_seconds": 0.5,
        "settings": {"learning_rate": 1e-4, "betas": (0.5, 0.9), "ema": None, "fused": True},
        "scores": {
            "bits_per_dim": score(3.0 + seed, 0.02, "elbo, test"), "nats": score(130.0, 1.0, "elbo, test"),
            "frechet": score(50.0 + 9 * seed, 1.0, "frechet[efficientnet-lite0, n=2000, test]"),
        },
        "learning": [Progress(i, i / 9, {"model/loss": 1 / (i + 1), "model/kl": 1.0}) for i in range(300)],
        "precision": np.linspace(1, 0, 11), "recall": np.linspace(0, 1, 11),
        "samples": samples, "neighbours": np.stack([samples, images(20, channels, seed=9)], axis=1),
        **changed,
    })  # fmt: skip


def comparison(*entries, channels=1, **changed):
    return Comparison(**{
        "data": "digits", "spec": ImageSpec(channels, 8, 8, 17), "sizes": {"train": 1197, "test": 300},
        "classes": ["0", "1"], "fingerprint": "sha256:123abc", "budget": "1 epoch", "seed": 3,
        "split": "test", "n": 2000, "entries": entries, "command": "bestiary compare --data digits",
        "versions": {"bestiary": "0.1.0", "torch": "2.13.0"}, "hardware": "2 cores", "date": "2026-11-22",
        "seconds_total": 700.0, "floors": {"frechet": score(33.0, 0.5)}, "floor_precision": np.ones(11),
        "floor_recall": np.ones(11), "real": images(30, channels, seed=7), **changed,
    })  # fmt: skip


def empty(model, **changed):
    return Entry(
        model=model, family="baseline", paper="", year=1999, run="", parameters=0, examples=0,
        seconds=math.nan, **changed,
    )  # fmt: skip


class Document(HTMLParser):
    """Every element with its attributes, checked for balance, and all text outside the style sheet."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def figures(html):
    return re.findall(r'<svg class="figure".*?</svg>', html, flags=re.DOTALL)


@pytest.fixture(scope="module")
def full():
    diverged = entry(
        "c", 2, status="diverged", reason="loss was not finite", scores={"frechet": score(math.nan)}
    )
    return comparison(entry("a"), entry("b", 1), diverged)


@pytest.fixture(scope="module")
def html(full):
    return render(full)


def test_nothing_outside_the_file_is_referred_to(html):
    document = Document(html)
    for tag, attributes in document.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"}:
                assert value.startswith(("#", "data:image/png;base64,"))
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)
    [policy] = [m["content"] for m in document.all("meta") if m.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_links_and_references_inside_the_file_lead_somewhere(html):
    identifiers = [a["id"] for _, a in Document(html).elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html)
    assert used
    assert {a or b for a, b in used} <= set(identifiers)


def test_figures_are_valid_xml_and_described(html):
    drawn = figures(html)
    assert len(drawn) == 2 + 3 + 1  # scores with a chart, models with a training, one figure of curves
    for svg in drawn:
        root = ET.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        assert not root.findall(".//{*}style")
    assert 'aria-label="Fréchet distance: a 50.0 ± 1.0, b 59.0 ± 1.0; real/real 33.0 ± 0.5"' in html


def test_tables_and_images_are_accessible(html):
    document = Document(html)
    assert all(image["alt"] and image["width"] and image["height"] for image in document.all("img"))
    assert all(head["scope"] in {"row", "col"} for head in document.all("th"))
    assert document.all("html")[0]["lang"] == "en"
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in document.all("meta")


def test_everything_that_was_found_is_on_the_page(full, html):
    text = Document(html).text
    for words in (
        "Three generative models on digits", "the same budget of 1 epoch", "8 × 8 grey, 17 levels, 2 classes",
        "a is best", "a (≤ 3.000 ± 0.020)", "1,234,567", "2.13 PFLOP in bfloat16", "1 min 05 s",
        "generator 10 discriminator 50", "diverged", "loss was not finite", "the value is not a number",
        "the true value may be lower (a, b: elbo, test)",
        "frechet[efficientnet-lite0, n=2000, test] (2,000 real, 2,000 generated)", "sha256:123abc",
        "torch 2.13.0",
        "learning_rate 0.0001", "betas 0.5, 0.9", "ema none", "fused true", full.command, "train 1,197",
    ):  # fmt: skip
        assert words in text, words
    order = [
        "verdict",
        "table",
        "scores",
        "samples",
        "learning",
        "curves",
        "neighbours",
        "definitions",
        "repeat",
    ]
    assert re.findall(r'<section id="(\w+)"', html) == order


def test_missing_values_are_never_written_as_numbers(html):
    assert not re.search(r"\b(nan|NaN|inf|N/A|None)\b", Document(html).text)


def rows(html):
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    return [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in body.split("</tr>")[:-1]
    ]


def test_the_table_has_one_row_a_model_and_the_floor(html):
    table = rows(html)
    assert [row[0].split("<")[0].strip() for row in table] == ["a", "b", "c", "real/real"]
    heads = re.findall(r'<th scope="col">', html)
    assert {len(row) for row in table} == {len(heads)} == {7}
    assert table[0][6] == "<b>50.0</b><small>± 1.0</small>"
    assert table[0][5] == "<b>≤ 3.000</b><small>± 0.020<br>≤ 130.0 nats</small>"
    assert table[2][5] == "–<sup>a</sup>"
    assert table[2][6] == "–<sup>b</sup>"
    assert table[3][6] == "33.0<small>± 0.5</small>"


def test_scores_that_the_verdict_does_not_rest_on_have_a_table_of_their_own():
    more = {"kernel": score(0.5), "active_units": score(7, None), "psnr": score(20.0, 0.1)}
    a, b = entry("a"), entry("b", 1)
    a = replace(a, scores={**a.scores, **more})
    b = replace(b, scores={**b.scores, "kernel": score(0.9)}, unavailable={"reconstruction": "no <encoder>"})
    html = render(comparison(a, b, floors={"frechet": score(33.0, 0.5), "kernel": score(0.0)}))
    document = Document(html)
    assert re.findall(r'<section id="(\w+)"', html)[:4] == ["verdict", "table", "scores", "others"]
    assert {len(row) for row in rows(html)} == {7}  # the main table is as without them
    assert "score-kernel" not in html  # nor has it a chart
    table = rows(html[html.index('id="others"') :])
    assert table == [
        ["Kernel distance&nbsp;↓", "<b>0.500</b><small>± 0.010</small>", "0.900<small>± 0.010</small>",
         "0.000<small>± 0.010</small>"],
        ["Active units", "7", "–<sup>a</sup>", "–"],
        ["PSNR of reconstructions&nbsp;↑<small>dB</small>", "20.00<small>± 0.10</small>",
         "–<sup>b</sup>", "–"],
    ]  # fmt: skip
    assert "a not measured." in document.text
    assert "b no <encoder>." in document.text
    assert "neither high nor low is better" in document.text
    alone = comparison(entry("a", scores=more), entry("b", scores=more))
    assert 'id="others"' not in render(alone)  # without main scores these are the table
    assert len(rows(render(alone))[0]) == 5 + 3


def test_what_to_know_before_believing_the_scores_stands_below_them(tmp_path):
    known = comparison(entry("a"), notes=("frechet: 9 examples are <too> few",))
    known.save(tmp_path)
    for each in (known, Comparison.load(tmp_path)):
        assert "frechet: 9 examples are <too> few." in Document(render(each)).text


def test_only_a_distinguishable_best_is_bold():
    close = entry("b", 1, scores={"bits_per_dim": score(3.01, 0.02), "frechet": score(51.0, 1.0)})
    html = render(comparison(entry("a"), close))
    assert not [cell for row in rows(html) for cell in row if "<b>" in cell]
    assert "Nothing is bold" in html


def test_whatever_a_user_names_is_escaped():
    changed = {
        "reason": NASTY, "status": "stopped", "family": NASTY, "paper": NASTY, "run": NASTY,
        "settings": {NASTY: NASTY}, "updates": {NASTY: 1, "other": 2},
        "scores": {"frechet": score(1.0, 0.1, NASTY)}, "unavailable": {"bits_per_dim": NASTY},
        "learning": [Progress(i, i, {NASTY: i}) for i in range(3)],
    }  # fmt: skip
    everything = {"data": NASTY, "command": NASTY, "hardware": NASTY, "versions": {NASTY: NASTY},
                  "budget": NASTY, "fingerprint": NASTY, "date": NASTY, "split": NASTY,
                  "sizes": {NASTY: 1}}  # fmt: skip
    html = render(comparison(entry(NASTY, **changed), entry("b", 1), **everything))
    document = Document(html)
    assert not document.all("script")
    assert "alert('x')" not in html
    assert "\x00" not in html
    assert document.text.count("<script>alert('x')</script> & \"q\" $x_1$ @0@ é\ufffd") > 15
    for svg in figures(html):
        ET.fromstring(svg)
    assert "&lt;script&gt;alert" in figures(html)[0]  # drawn as it is written, not as mathematics


def test_equal_input_gives_equal_bytes(full, html, tmp_path):
    settings = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        again = render(full)
    assert again == html
    assert dict(mpl.rcParams) == settings
    full.save(tmp_path)
    path = write_report(Comparison.load(tmp_path), tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_bytes() == html.encode()


def test_save_and_load_give_back_everything(full, tmp_path):
    full.save(tmp_path)
    loaded = Comparison.load(tmp_path)
    assert loaded.spec == full.spec
    for a, b in zip([full, *full.entries], [loaded, *loaded.entries], strict=True):
        for name in (field.name for field in fields(a)):
            old, new = getattr(a, name), getattr(b, name)
            if isinstance(old, np.ndarray):
                assert old.dtype == new.dtype
                np.testing.assert_array_equal(old, new)
            elif name in {"settings", "scores", "entries", "learning"}:
                assert len(old) == len(new)
            else:
                assert old == new, name
    assert loaded.entries[0].scores == full.entries[0].scores
    assert tuple(loaded.entries[0].learning) == tuple(full.entries[0].learning)
    assert math.isnan(loaded.entries[2].scores["frechet"].value)
    assert loaded.entries[0].settings["betas"] == [0.5, 0.9]


def test_files_are_plain_and_hold_no_nan(full, tmp_path):
    broken = replace(
        full.entries[0], model="d", learning=[Progress(1, 0.5, {"loss": math.inf})], seconds=math.nan
    )
    replace(full, entries=[*full.entries, broken]).save(tmp_path)

    def refuse(constant):
        raise AssertionError(constant)

    plain = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=refuse)
    assert plain["entries"][2]["scores"]["frechet"]["value"] is None
    assert plain["entries"][3]["learning"][0]["terms"]["loss"] is None
    with np.load(tmp_path / "comparison.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)
    table = list(csv.DictReader(io.StringIO((tmp_path / "comparison.csv").read_text(encoding="utf-8"))))
    assert [row["model"] for row in table] == ["a", "b", "c", "d", "real/real"]
    assert float(table[0]["frechet"]) == 50.0
    assert float(table[0]["frechet_error"]) == 1.0
    assert table[2]["frechet"] == table[2]["bits_per_dim"] == table[3]["seconds"] == ""
    assert table[1]["updates_discriminator"] == "50"
    assert float(table[4]["frechet"]) == 33.0


@pytest.mark.parametrize(
    "damage", ["missing", "not json", "other release", "no arrays", "bad arrays", "unknown field"]
)
def test_a_damaged_comparison_is_refused_in_one_line(full, tmp_path, damage):
    if damage != "missing":
        full.save(tmp_path)
    path = tmp_path / "comparison.json"
    if damage == "not json":
        path.write_text("{")
    elif damage == "other release":
        path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    elif damage == "unknown field":
        path.write_text(path.read_text().replace('"budget"', '"budgets"'))
    elif damage == "no arrays":
        (tmp_path / "comparison.npz").unlink()
    elif damage == "bad arrays":
        (tmp_path / "comparison.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(
        RunError, match=r"cannot read a comparison .* wanted a folder that `bestiary compare`"
    ) as error:
        Comparison.load(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_left_out():
    html = render(comparison(empty("a"), real=None, floors={}, floor_precision=None, floor_recall=None))
    Document(html)
    assert re.findall(r'<section id="(\w+)"', html) == ["verdict", "table", "definitions", "repeat"]
    assert "One generative model on digits" in html
    assert "not measured" in html


def test_one_model_and_mixed_models_render(tmp_path):
    alone = comparison(entry("a"))
    Document(render(alone))
    mixed = comparison(entry("a"), empty("b", status="diverged"), empty("c", samples=images(0)))
    html = render(mixed)
    Document(html)
    assert "Without steps to show: b, c." in html
    mixed.save(tmp_path)
    assert render(Comparison.load(tmp_path)) == html


def test_data_that_are_no_images_have_no_grids():
    points = {"samples": None, "neighbours": None}
    html = render(comparison(entry("a", **points), entry("b", 1, **points), spec=PointSpec(2), real=None))
    assert not Document(html).all("img")
    assert 'id="samples"' not in html


def decode(html):
    data = re.search(r"base64,([^\"]+)", html)[1]
    size = [int(v) for v in re.search(r'width="(\d+)" height="(\d+)"', html).groups()]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")), size


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32), (3, 64), (4, 16)])
def test_grids_show_the_pixels_that_they_are_given(channels, size):
    given = images(13, channels, size)
    pixels, (width, height) = decode(grid(given, "thirteen"))
    assert width % pixels.shape[1] == 0
    assert height / pixels.shape[0] == width / pixels.shape[1]
    assert width <= 346
    across = (pixels.shape[1] + 1) // (size + 1)
    for i, image in enumerate(given):
        y, x = (i // across) * (size + 1), (i % across) * (size + 1)
        tile = pixels[y : y + size, x : x + size]
        np.testing.assert_array_equal(tile[..., 0], image[0])
        np.testing.assert_array_equal(tile[..., 2], image[min(2, channels - 1)])
        assert (tile[..., 3] == 255).all()
    assert (pixels[:, size, 3] == 0).all()


def test_pairs_stand_above_one_another():
    given = images(6).reshape(3, 2, 1, 8, 8)
    pixels, _ = decode(pair_grid(given, "pairs"))
    assert pixels.shape[:2] == (16, 3 * 9 - 1)
    np.testing.assert_array_equal(pixels[:8, 9:17, 0], given[1, 0, 0])
    np.testing.assert_array_equal(pixels[8:, 9:17, 0], given[1, 1, 0])


def test_all_grids_of_a_page_show_the_same_number():
    html = render(comparison(entry("a"), entry("b", samples=images(12))))
    alts = [image["alt"] for image in Document(html).all("img")]
    assert alts[:3] == ["12 images: Real images", "12 images: a", "12 images: b"]


def test_models_look_different():
    looks = [look(i) for i in range(24)]
    assert len({(each.colour, each.dashes) for each in looks}) == 24
    assert len({(each.colour, each.marker) for each in looks}) == 24


def test_a_long_fall_at_the_start_does_not_flatten_the_rest():
    steps = np.arange(200)
    falling = 100.0 * np.exp(-steps / 3) + 1 + 0.001 * (200 - steps)
    low, high = visible([falling])
    assert low < 1.001
    assert high < 1.5
    assert visible([np.linspace(2, 1, 200)]) is None
    assert visible([np.full(5, np.nan)]) is None
    assert visible([np.ones(50)]) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.31, "0.31 s"), (9.94, "9.9 s"), (48.2, "48 s"), (312, "5 min 12 s"), (300.1, "5 min"),
     (59.7, "1 min"), (7500, "2 h 05 min"), (math.nan, "not measured")],
)  # fmt: skip
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text
