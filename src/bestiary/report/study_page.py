"""The report of a study: the verdict in words first, then everything it rests on."""

import base64
from collections.abc import Mapping
from pathlib import Path

from bestiary.report.page import count, definitions, duration, figure, page, paragraph, section, table, text
from bestiary.report.study_drawing import BUDGETS, draw, identifier, overview
from bestiary.report.study_figures import plain
from bestiary.report.study_sections import (
    agreement_section,
    curves_section,
    draws_section,
    effects_section,
    elsewhere_section,
    ordered,
    rungs_section,
    table_section,
    winners_section,
)
from bestiary.study.analysis.analysis import analyse
from bestiary.study.analysis.findings import Analysis
from bestiary.study.analysis.tables import tables, write_table
from bestiary.study.analysis.trials import UNITS, StudyResults
from bestiary.study.analysis.verdict import amount, study_verdict


def write(results: StudyResults, folder: Path) -> Path:
    """See `bestiary.report.write_study_report`."""
    analysis = analyse(results)
    drawn = draw(analysis)
    for name in ("tables", "figures"):
        (folder / name).mkdir(exist_ok=True, parents=True)
    for each in tables(analysis):
        write_table(each, folder / "tables")
    files = drawn | {name: overview(analysis, name, with_key=True) for name in BUDGETS}
    for name, svg in files.items():
        path = folder / "figures" / f"{identifier(name)}.svg"
        path.write_text(plain(svg), encoding="utf-8", newline="\n")
    path = folder / "report.html"
    path.write_text(render(analysis, drawn, folder), encoding="utf-8", newline="\n")
    return path


def render(analysis: Analysis, drawn: Mapping[str, str], folder: Path) -> str:
    """The report as one HTML document that refers to nothing outside itself."""
    results = analysis.results
    parts = [
        ("verdict", "Verdict", _verdict(analysis)),
        ("table", "Table", table_section(analysis)),
        ("curves", "Best of k", curves_section(analysis, drawn)),
        ("rungs", "On the way", rungs_section(analysis)),
        ("draws", "Draws", draws_section(analysis, drawn)),
        ("winners", "Winners", winners_section(analysis, drawn)),
        ("sensitivity", "Hyper-parameters", effects_section(analysis, drawn)),
        ("agreement", "Scores", agreement_section(analysis, drawn)),
        ("elsewhere", "Other data", elsewhere_section(analysis, drawn)),
        ("samples", "Samples", _samples(analysis, folder)),
        ("spent", "Spent", _spent(analysis)),
        ("repeat", "Repeat it", _repeat(analysis)),
    ]
    parts = [part for part in parts if part[2]]
    version = results.versions.get("bestiary", "")
    links = "".join(f'<a href="#{anchor}">{text(name)}</a>' for anchor, name, _ in parts)
    body = [
        _header(analysis),
        f'<nav aria-label="Sections">{links}</nav>',
        *(content for *_, content in parts),
        f"<footer>Made by bestiary {text(version)} on {text(results.date)}.</footer>",
    ]
    return page(_title(analysis), "\n".join(body))


def _title(analysis: Analysis) -> str:
    n = len(analysis.arms)
    return f"{analysis.results.name}: {n} arm{'' if n == 1 else 's'} on {analysis.results.data}"


def _header(analysis: Analysis) -> str:
    results = analysis.results
    draws = sum(len(arm.trials) for arm in analysis.arms)
    seeds = {row.seed for row in results.retrained}
    facts = [
        ("Data", results.data),
        ("Budget of each draw", results.budget),
        ("Draws of each arm", f"{results.draws}, {_search(results)}"),
        ("Draws made", count(draws)),
        ("Chosen by", f"{results.selection}, validation split"),
        ("Winners re-trained", f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}" if seeds else "not yet"),
        ("Hardware", results.hardware),
        ("Took", f"{duration(results.seconds_total)} in all, on {results.date}"),
    ]
    n = len(analysis.arms)
    question = "How good does it get, tuned under a fixed budget?"
    if n > 1:
        question = "Which of them is best, when each gets the same budget and the same number of draws?"
    return (
        f'<header>\n<p class="kicker">bestiary · study</p>\n<h1>{text(_title(analysis))}</h1>\n'
        f"{paragraph(question, 'question')}\n"
        f"{definitions([(term, text(value)) for term, value in facts if value], 'facts')}\n</header>"
    )


def _search(results: StudyResults) -> str:
    return {
        "random": "the default and the rest at random",
        "tpe": "the default and the rest guided (TPE)",
    }.get(results.search, results.search)


def _verdict(analysis: Analysis) -> str:
    overall, *others = study_verdict(analysis)
    listed = definitions([(finding.topic, _unbroken(finding.text)) for finding in others])
    headline = paragraph(f"{overall.topic}.", "headline") + paragraph(overall.text, "lead")
    return section("verdict", "The verdict", headline, listed, kind="verdict")


def _unbroken(words: str) -> str:
    """Plain text as HTML, in which a value stays on one line with what belongs to it."""
    for sign in ("±", "=", "<"):
        words = words.replace(f" {sign} ", f"\u00a0{sign}\u00a0")
    return text(words.replace("< ", "<\u00a0"))


def _pictures(run: Path) -> list[Path]:
    """Those of a run by the number of examples, which may have any number of digits."""
    return sorted((run / "samples").glob("*.png"), key=lambda path: (len(path.stem), path.stem))


def _samples(analysis: Analysis, folder: Path) -> str:
    """The last picture that the training of each arm's first re-trained winner has left."""
    panels = []
    for arm in ordered(analysis):
        rows = [row for row in analysis.results.retrained if row.arm == arm.name and row.status == "finished"]
        found = [path for row in rows[:1] for path in _pictures(folder / row.folder)]
        if found:
            data = base64.b64encode(found[-1].read_bytes()).decode("ascii")
            label = text(f"Samples of {arm.name}'s winner")
            image = f'<img class="pixels" alt="{label}" src="data:image/png;base64,{data}">'
            panels.append(figure(image, f"<b>{text(arm.name)}</b>"))
    if not panels:
        return ""
    words = "Drawn by each arm's winner at the end of its training, not chosen."
    return section("samples", "Samples", paragraph(words), f'<div class="panels">{"".join(panels)}</div>')


def _spent(analysis: Analysis) -> str:
    results = analysis.results
    units = [unit for unit in UNITS if all(unit in arm.spent for arm in analysis.arms)]
    header = [
        "Arm",
        *(f"{unit}<small>a draw, mean</small>" for unit in units),
        *(f"{unit}<small>all draws</small>" for unit in units),
    ]
    rows = [
        [text(arm.name), *(text(amount(arm.cost(u), u).removesuffix(f" {u}")) for u in units),
         *(text(amount(arm.spent[u], u).removesuffix(f" {u}")) for u in units)]
        for arm in ordered(analysis)
    ]  # fmt: skip
    words = f"Made equal: {results.budget} a draw; the rest follows from it. Draws that failed are in it."
    again = [row for row in (*results.retrained, *results.elsewhere) if "seconds" in row.spent]
    if again:
        words += (
            f" Training the winners anew took {duration(sum(row.spent['seconds'] for row in again))} more."
        )
    saved = {arm: share for arm, share in results.saved.items() if share > 0}
    if saved:
        named = ", ".join(f"{arm} {share:.0%}" for arm, share in saved.items())
        words += f" Giving up hopeless draws saved, of the arm's budget: {named}."
    return section("spent", "What was spent", paragraph(words), table("What every arm spent", header, rows))


def _repeat(analysis: Analysis) -> str:
    results = analysis.results
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    facts = [
        ("Seed", str(results.seed)),
        ("Versions", versions),
        ("Hardware", results.hardware),
        (
            "Beside this page",
            "results.json, tables/ (CSV, JSON, LaTeX), figures/ (SVG), and a run folder for each draw",
        ),
    ]
    command = f"<pre><code>{text(results.command)}</code></pre>" if results.command else ""
    return section(
        "repeat", "Everything needed to repeat it", command,
        definitions([(term, text(value)) for term, value in facts if value], "facts"),
        "<h3>The settings that were chosen</h3>",
        f'<div class="settings">{"".join(_settings(analysis, arm.name) for arm in analysis.arms)}</div>',
    )  # fmt: skip


def _settings(analysis: Analysis, name: str) -> str:
    results, arm = analysis.results, analysis.arm(name)
    if arm.best is None:
        return f'<article><h3>{text(name)}</h3><div class="kind">no draw has a score</div></article>'
    space = results.spaces.get(name, {})
    settings = {o: v for o, v in arm.best.settings.items() if o in space}
    settings |= {o: v for o, v in arm.best.settings.items() if o not in space}
    listed = definitions(
        [(option, text(_setting(value)) + _range(space.get(option))) for option, value in settings.items()]
    )
    kind = f"draw {arm.best.number}<br><code>{text(arm.best.folder)}</code>"
    return f'<article><h3>{text(name)}</h3><div class="kind">{kind}</div>{listed}</article>'


def _range(space: object) -> str:
    """Where a drawn setting came from."""
    if not isinstance(space, Mapping):
        return ""
    if "choices" in space:
        return f" <small>of {text(', '.join(map(_setting, space['choices'])))}</small>"
    return f" <small>of {text(_setting(space.get('low')))} to {text(_setting(space.get('high')))}</small>"


def _setting(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
