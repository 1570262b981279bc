#!/usr/bin/env python3
"""Draws what `make bench-peers` measured: bars of CPU for each GiB and each request, by system.

    benches/peers/plot.py target/bench-peers.json docs/peers.svg
"""

import json
import pathlib
import sys
from xml.sax.saxutils import escape

# By panel: what is drawn, and of which cases.
PANELS = [
    ("CPU-seconds for each GiB", "cpu_s_per_gib", ["put-1g", "get-1g", "put-8x64m", "get-8x64m"]),
    ("CPU microseconds for each request", "cpu_us_per_req", ["put-4k", "get-4k", "range-256k", "handshake"]),
]
WORDS = {
    "put-1g": "PUT 1 GiB",
    "get-1g": "GET 1 GiB",
    "put-8x64m": "PUT 8 × 64 MiB",
    "get-8x64m": "GET 8 × 64 MiB",
    "put-4k": "PUT 4 KiB",
    "get-4k": "GET 4 KiB",
    "range-256k": "range of 256 KiB",
    "handshake": "full handshake",
}
WIDTH, NAME, GAP, BAR, STEP = 860, 112, 48, 12, 17
COLUMNS = 2
# How often the least of a case a bar may be at most; what is more is cut, and says so.
MOST = 6
# Legible on white and on black.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.h { font-size: 14px; font-weight: 600 } .c { font-weight: 600 } .v { font-size: 11px }
.b { fill: #8c959f } .o { fill: #0969da }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .b { fill: #6e7681 } .o { fill: #4493f8 } }
"""


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def text(x, y, words, kind="", more=""):
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{kind}{more}>{escape(words)}</text>'


def chart(left, top, case, values):
    """The bars of one case, and where they end."""
    drawn = [text(left, top + 12, WORDS[case], "c")]
    room = (WIDTH - GAP) / COLUMNS - NAME - 60
    most = max(value for _, value in values)
    whole = min(most, MOST * min(value for _, value in values))
    y = top + 20
    for name, value in values:
        cut = value > whole
        length = max(1, room * min(value, whole) / whole)
        kind = "o" if name == "sealward" else "b"
        drawn.append(text(left + NAME - 8, y + 10, name, "", ' text-anchor="end"'))
        drawn.append(f'<rect x="{left + NAME:g}" y="{y}" width="{length:.1f}" height="{BAR}" class="{kind}"/>')
        drawn.append(text(left + NAME + length + 5, y + 10, f"{number(value)}{' →' if cut else ''}", "v"))
        y += STEP
    return drawn, y


def draw(rows):
    drawn, y = [], 8
    systems = list(dict.fromkeys(row["system"] for row in rows))
    by = {(row["system"], row["case"]): row for row in rows}
    for heading, figure, cases in PANELS:
        charts = []
        for case in cases:
            found = [(name, (by.get((name, case)) or {}).get(figure)) for name in systems]
            if values := [(name, value) for name, value in found if value]:
                charts.append((case, values))
        if not charts:
            continue
        y += 16
        drawn.append(text(0, y, heading, "h"))
        y += 10
        for at in range(0, len(charts), COLUMNS):
            ends = []
            for column, (case, values) in enumerate(charts[at : at + COLUMNS]):
                more, end = chart(column * (WIDTH + GAP) / COLUMNS, y, case, values)
                drawn += more
                ends.append(end)
            y = max(ends) + 12
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img"'
    title = "<title>CPU that each system needs for the same work; less is better</title>"
    return "\n".join([f"{head}>", title, f"<style>{STYLE}</style>", *drawn, "</svg>", ""])


def main():
    rows = json.loads(pathlib.Path(sys.argv[1]).read_text())
    svg = draw(rows)
    pathlib.Path(sys.argv[2]).write_text(svg)
    print(f"{sys.argv[2]}: {len(svg.encode())} bytes")


if __name__ == "__main__":
    main()
