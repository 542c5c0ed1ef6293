"""The page that every report is set on: one HTML file that needs no network and no script.

Functions take and return HTML. Whatever is not HTML yet, and above all whatever a user has named, goes
through `text` first.
"""

import html
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files

# The browser itself refuses whatever would leave the file.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# Characters that XML 1.0 and HTML do not allow; they cannot be escaped, only shown as missing.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def text(value: object) -> str:
    """A value as HTML: escaped, and without characters that no document may hold."""
    return html.escape(_FORBIDDEN.sub("\ufffd", str(value)), quote=True)


def page(title: str, body: str) -> str:
    """The whole document. `title` is plain text, `body` is HTML."""
    style = files("bestiary.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(anchor: str, heading: str, *parts: str, kind: str = "") -> str:
    """A section with a plain-text heading; empty parts are dropped."""
    content = "\n".join(part for part in parts if part)
    css = f' class="{kind}"' if kind else ""
    return f'<section id="{anchor}"{css}>\n<h2>{text(heading)}</h2>\n{content}\n</section>'


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def definitions(pairs: Iterable[tuple[str, str]], kind: str = "") -> str:
    """A list of plain-text terms and their HTML descriptions."""
    items = "".join(f"<div><dt>{text(t)}</dt><dd>{d}</dd></div>" for t, d in pairs)
    return f'<dl class="{kind}">{items}</dl>'


def figure(content: str, caption: str) -> str:
    """A figure with its HTML caption above it."""
    return f"<figure><figcaption>{caption}</figcaption>\n{content}</figure>"


def table(
    label: str, header: Sequence[str], rows: Iterable[Sequence[str]], reference: Sequence[str] = ()
) -> str:
    """A table in a container that scrolls by itself on narrow screens.

    Arguments:
        label: plain text, for readers who do not see the table.
        header: HTML of the column heads.
        rows: HTML cells; the first of each row is its head.
        reference: one more row, set apart below the others.
    """
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "\n".join(_row(row) for row in rows)
    if reference:
        body += "\n" + _row(reference, ' class="reference"')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}">\n<table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _row(cells: Sequence[str], css: str = "") -> str:
    head, *others = cells
    return f'<tr{css}><th scope="row">{head}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'


def count(number: int) -> str:
    """A whole number with thousands set apart: 1,234,567."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """Seconds as people say them: "0.31 s", "48 s", "5 min 12 s", "2 h 05 min"."""
    if seconds != seconds:
        return "not measured"
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
