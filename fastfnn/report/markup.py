"""HTML as far as a report needs it. Plain text that comes in is escaped; what is `Html` already stays as it is."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #62676d; --paper: #fff; --line: #dcdfe3; --tint: #f4f5f7;
  --blue: #0072b2; --bar: #cfe3f1; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e7e9; --soft: #a0a5ab; --paper: #16181b; --line: #383c41; --tint: #202327;
    --blue: #6cb8e6; --bar: #1f425a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 56rem; padding: 2.5rem 1.25rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.75rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); font-size: 1.25rem; }
p { margin: .5rem 0; overflow-wrap: anywhere; }
.soft, figcaption, footer { color: var(--soft); }
.note { margin-top: 1rem; padding: .6rem .9rem; border-left: 3px solid var(--blue); background: var(--tint); }
dl { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.5rem 0 0; }
dl div { flex: 1 1 7rem; padding: .7rem .9rem; border-radius: .5rem; background: var(--tint); }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0 1.5rem; }
figure img { display: block; max-width: 100%; height: auto; border-radius: .5rem; background: #fff; }
@media screen { figure img { max-width: max(100%, 34rem); } }
figcaption { margin-top: .4rem; font-size: .9rem; }
@media screen and (prefers-color-scheme: dark) {
  figure img { padding: .6rem; filter: brightness(.85); }
  .drawing img { filter: invert(.91) hue-rotate(180deg); }
}
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
.text { text-align: left; white-space: normal; }
th.text { white-space: nowrap; }
.fact { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.name { text-align: left; color: var(--soft); }
td:last-child, th:last-child { padding-right: 0; }
.bar { display: block; min-width: 8rem; padding-right: .4rem;
  background: linear-gradient(var(--bar), var(--bar)) no-repeat left / var(--share) 100%; }
summary { cursor: pointer; color: var(--blue); }
code, pre { font: .88rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
td code { overflow-wrap: normal; }
pre { margin: .75rem 0; padding: .6rem .9rem; border-radius: .5rem; background: var(--tint); white-space: pre-wrap; }
footer { margin-top: 3rem; font-size: .85rem; }
@media screen and (max-width: 30rem) {
  body { padding: 1.25rem .9rem 2rem; }
  h1 { font-size: 1.5rem; }
  th, td { padding-right: .6rem; }
  .bar { min-width: 4rem; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --line: #bbb; --tint: #f4f5f7;
    --blue: #0072b2; --bar: #cfe3f1; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  figure, tr, dl { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Html:
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(parts: Iterable[object], between: str = "\n") -> Html:
    return Html(between.join(map(text, parts)))


def tag(name: str, *content: object, **attributes: object) -> Html:
    """An element; an attribute ``class_`` stands for ``class``."""
    shown = "".join(f' {key.rstrip("_")}="{text(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{shown}>{join(content, '')}</{name}>")


def section(heading: str, *parts: Html) -> Html:
    """Heading and parts; nothing where all parts are empty."""
    filled = [part for part in parts if part]
    return tag("section", "\n", join([tag("h2", heading), *filled]), "\n") if filled else Html()


def table(header: Sequence[str], rows: Sequence[Sequence[object]], words: Sequence[int] = ()) -> Html:
    """Numbers, to the right; the columns in `words` hold words, to the left. Nothing where there are no rows."""

    def line(kind: str, cells: Sequence[object]) -> Html:
        return tag("tr", *(tag(kind, c, **{"class_": "text"} if i in words else {}) for i, c in enumerate(cells)))

    return _table(line("th", header), [line("td", row) for row in rows]) if rows else Html()


def facts(values: Mapping[str, object]) -> Html:
    """Names and what they are."""
    rows = [
        tag("tr", tag("td", name, class_="name"), tag("td", value, class_="fact")) for name, value in values.items()
    ]
    return _table(None, rows) if rows else Html()


def _table(header: Html | None, rows: Sequence[Html]) -> Html:
    parts = [tag("thead", header)] if header is not None else []
    return tag("div", tag("table", "\n", join([*parts, tag("tbody", "\n", join(rows), "\n")]), "\n"), class_="scroll")


def indented(depth: int, content: object) -> Html:
    """What belongs to a thing above it."""
    return tag("span", content, style=f"display: block; padding-left: {depth}em") if depth else text(content)


def bar(content: str, share: float) -> Html:
    """A figure with a bar of that share behind it."""
    width = 100 * share if math.isfinite(share) else 0.0
    return tag("span", content, class_="bar", style=f"--share: {width:.1f}%")


def highlights(values: Mapping[str, object]) -> Html:
    """A few figures that stand out."""
    tiles = [tag("div", tag("dt", name), tag("dd", value)) for name, value in values.items()]
    return tag("dl", "\n", join(tiles), "\n") if tiles else Html()


def folded(heading: str, content: Html) -> Html:
    """What shows when asked for."""
    return tag("details", tag("summary", heading), "\n", content) if content else Html()


def figure(png: bytes, caption: str, width: int, is_photo: bool = False) -> Html:
    """A picture, held by the page itself: in the dark a drawing has light lines, a photograph stays what it is."""
    data = base64.b64encode(png).decode()
    image = Html(f'<img src="data:image/png;base64,{data}" alt="{text(caption)}" width="{width}">')
    scrolls = tag("div", image, class_="scroll")
    return tag("figure", scrolls, "\n", tag("figcaption", caption), class_="photo" if is_photo else "drawing")


def document(title: str, *body: Html) -> str:
    """The whole page."""
    head = join([
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Html(STYLE)),
    ])  # fmt: skip
    parts = [part for part in body if part]
    page = tag("html", "\n", tag("head", "\n", head, "\n"), "\n", tag("body", "\n", join(parts), "\n"), "\n", lang="en")
    return f"<!DOCTYPE html>\n{page}\n"
