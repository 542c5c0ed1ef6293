"""The report of a comparison: the verdict in words first, then everything it rests on."""

from collections.abc import Sequence

import numpy as np

from bestiary.data.specs import ImageSpec, SequenceSpec
from bestiary.report.figures import REAL_LOOK, curve_figure, key, learning_figure, look, term_looks
from bestiary.report.images import columns, grid, pair_grid
from bestiary.report.page import count, definitions, duration, figure, page, paragraph, section, text
from bestiary.report.scores import charts_section, definitions_section, others_section, table_section
from bestiary.study.results import REAL, Comparison, Entry
from bestiary.study.verdict import verdict

_GRID_ROWS, _PAIR_ROWS = 8, 3
_TERMS = 3
_NUMBERS = (
    "No",
    "One",
    "Two",
    "Three",
    "Four",
    "Five",
    "Six",
    "Seven",
    "Eight",
    "Nine",
    "Ten",
    "Eleven",
    "Twelve",
)


def render(comparison: Comparison) -> str:
    """The report as one HTML document that refers to nothing outside itself."""
    parts = [
        ("verdict", "Verdict", _verdict(comparison)),
        ("table", "Table", table_section(comparison)),
        ("scores", "Scores", charts_section(comparison)),
        ("others", "Other scores", others_section(comparison)),
        ("samples", "Samples", _samples(comparison)),
        ("learning", "Learning", _learning(comparison)),
        ("curves", "Precision and recall", _curves(comparison)),
        ("neighbours", "Nearest training images", _neighbours(comparison)),
        ("definitions", "Definitions", definitions_section(comparison)),
        ("repeat", "Repeat it", _repeat(comparison)),
    ]
    parts = [part for part in parts if part[2]]
    links = "".join(f'<a href="#{anchor}">{text(title)}</a>' for anchor, title, _ in parts)
    body = [
        _header(comparison),
        f'<nav aria-label="Sections">{links}</nav>',
        *(content for *_, content in parts),
    ]
    version = comparison.versions.get("bestiary", "")
    body.append(f"<footer>Made by bestiary {text(version)} on {text(comparison.date)}.</footer>")
    return page(_title(comparison), "\n".join(body))


def _title(comparison: Comparison) -> str:
    n = len(comparison.entries)
    number = _NUMBERS[n] if n < len(_NUMBERS) else str(n)
    return f"{number} generative model{'' if n == 1 else 's'} on {comparison.data}"


def _header(comparison: Comparison) -> str:
    question = f"How good is it after a budget of {comparison.budget}?"
    if len(comparison.entries) > 1:
        question = f"Which of them is best, when each gets the same budget of {comparison.budget}?"
    classes = f", {len(comparison.classes)} classes" if comparison.classes else ""
    facts = [
        ("Data", f"{comparison.data}: {_example(comparison)}{classes}"),
        ("Trained on", f"{count(comparison.sizes.get('train', 0))} examples"),
        ("Budget of each model", comparison.budget),
        ("Scored", f"{count(comparison.n)} samples of each model, against the {comparison.split} split"),
        ("Seed", str(comparison.seed)),
        ("Hardware", comparison.hardware),
        ("Took", f"{duration(comparison.seconds_total)} in all, on {comparison.date}"),
    ]
    return (
        f'<header>\n<p class="kicker">bestiary · comparison</p>\n<h1>{text(_title(comparison))}</h1>\n'
        f"{paragraph(question, 'question')}\n"
        f"{definitions([(term, text(value)) for term, value in facts], 'facts')}\n</header>"
    )


def _example(comparison: Comparison) -> str:
    spec = comparison.spec
    if isinstance(spec, SequenceSpec):
        return f"sequences of {spec.length} symbols out of {spec.vocabulary}"
    if not isinstance(spec, ImageSpec):
        return " × ".join(map(str, spec.shape))
    colour = {1: "grey", 3: "colour"}.get(spec.channels, f"{spec.channels} channels")
    return f"{spec.height} × {spec.width} {colour}, {spec.levels} levels"


def _verdict(comparison: Comparison) -> str:
    overall, *others = verdict(comparison)
    listed = definitions([(finding.topic, _unbroken(finding.text)) for finding in others])
    headline = paragraph(f"{overall.topic}.", "headline") + paragraph(overall.text, "lead")
    return section("verdict", "The verdict", headline, listed, kind="verdict")


def _unbroken(words: str) -> str:
    """Plain text as HTML, in which a value stays on one line with its error bar."""
    return text(words.replace(" ± ", "\u00a0±\u00a0").replace("≤ ", "≤\u00a0"))


def _samples(comparison: Comparison) -> str:
    drawn = [(e.model, e.samples) for e in comparison.entries if e.samples is not None and len(e.samples)]
    if not drawn:
        return ""
    shown = drawn if comparison.real is None else [("Real images", comparison.real), *drawn]
    most = _GRID_ROWS * columns(shown[0][1].shape[-1])
    n = min(most, *(len(images) for _, images in shown))
    panels = [
        figure(grid(images[:n], f"{n} images: {name}"), f"<b>{text(name)}</b>") for name, images in shown
    ]
    words = f"The first {n} of each, not chosen, all at the same scale."
    return section("samples", "Samples beside real images", paragraph(words), _panels(panels))


def _learning(comparison: Comparison) -> str:
    panels, silent = [], []
    for i, entry in enumerate(comparison.entries):
        names = _terms(entry)
        if not names:
            silent.append(entry.model)
            continue
        seconds = np.array([line.seconds for line in entry.learning])
        terms = {name: np.array([line.terms.get(name, np.nan) for line in entry.learning]) for name in names}
        drawn = learning_figure(
            f"learning-{i}", seconds, terms, look(i), f"{entry.model}: {', '.join(names)}"
        )
        end = f' <span class="tag">{text(entry.status)}</span>' if entry.status != "finished" else ""
        terms_key = key(list(zip(term_looks(look(i), len(names)), names, strict=True)), inline=True)
        panels.append(figure(drawn, f"<b>{text(entry.model)}</b>{end}{terms_key}"))
    if not panels:
        return ""
    words = (
        "Each model's own cost against the seconds of its training. Costs of different models are different"
        " quantities and cannot be compared; what can be compared is in the table. The first steps may lie"
        " outside the figure."
    )
    if silent:
        words += f" Without steps to show: {', '.join(silent)}."
    return section("learning", "How they learned", paragraph(words), _panels(panels))


def _terms(entry: Entry) -> list[str]:
    """The terms to draw: the losses, or the first few where none is called so."""
    names: dict[str, None] = {}
    for line in entry.learning:
        names.update(dict.fromkeys(name for name, value in line.terms.items() if np.isfinite(value)))
    losses = [name for name in names if name.rpartition("/")[2] == "loss"]
    return (losses or list(names))[:_TERMS]


def _curves(comparison: Comparison) -> str:
    curves = [
        (entry.model, look(i), entry.precision, entry.recall)
        for i, entry in enumerate(comparison.entries)
        if entry.precision is not None and entry.recall is not None
    ]
    if not curves:
        return ""
    if comparison.floor_precision is not None and comparison.floor_recall is not None:
        curves.append((REAL, REAL_LOOK, comparison.floor_precision, comparison.floor_recall))
    label = f"Precision against recall of {', '.join(name for name, *_ in curves)}"
    drawn = curve_figure(
        "curves", [(style, precision, recall) for _, style, precision, recall in curves], label
    )
    words = (
        "Precision is the share of what a model draws that looks like real data, recall the share of the real"
        " data that it draws; a curve shows what can be had of both at once. The nearer to the upper right"
        " corner, the better; real data against real data is the best that can be expected."
    )
    names = key([(style, name) for name, style, *_ in curves])
    beside = f'<div class="beside"><figure>{drawn}</figure><div>{paragraph(words)}{names}</div></div>'
    return section("curves", "Precision and recall", beside)


def _neighbours(comparison: Comparison) -> str:
    known = [
        (e.model, e.neighbours) for e in comparison.entries if e.neighbours is not None and len(e.neighbours)
    ]
    if not known:
        return ""
    n = min(_PAIR_ROWS * columns(known[0][1].shape[-1]), *(len(pairs) for _, pairs in known))
    panels = [
        figure(
            pair_grid(pairs[:n], f"{n} samples of {model}, each above its nearest training image"),
            f"<b>{text(model)}</b>",
        )
        for model, pairs in known
    ]
    words = (
        "Upper images: samples. Lower images: what lies nearest in the training set. Equal pairs are copies."
    )
    return section(
        "neighbours", "Samples and their nearest training images", paragraph(words), _panels(panels)
    )


def _repeat(comparison: Comparison) -> str:
    sizes = ", ".join(f"{name} {count(size)}" for name, size in comparison.sizes.items())
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    facts = [
        ("Seed", str(comparison.seed)),
        ("Splits", sizes),
        ("Data fingerprint", comparison.fingerprint),
        ("Versions", versions),
        ("Hardware", comparison.hardware),
        (
            "Beside this page",
            "comparison.json, comparison.csv, comparison.npz, and a run folder for each model",
        ),
    ]
    return section(
        "repeat",
        "Everything needed to repeat it",
        f"<pre><code>{text(comparison.command)}</code></pre>",
        definitions([(term, text(value)) for term, value in facts if value], "facts"),
        f'<div class="settings">{"".join(_settings(entry) for entry in comparison.entries)}</div>',
    )


def _settings(entry: Entry) -> str:
    listed = definitions([(name, text(_setting(value))) for name, value in entry.settings.items()])
    run = f"<br><code>{text(entry.run)}</code>" if entry.run else ""
    paper = f"{text(entry.paper)}, {entry.year}" if entry.paper else str(entry.year)
    return f'<article><h3>{text(entry.model)}</h3><div class="kind">{paper}{run}</div>{listed}</article>'


def _setting(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_setting(item) for item in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _panels(panels: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(panels)}</div>'
