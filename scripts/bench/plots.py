"""Draws lines into small SVG files, readable on light and on dark backgrounds; the same figures, the same file."""

import html
import math
import statistics

from bench import MOUNT_PEAK
from growth import OF

WIDTH, HEIGHT = 300, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 34, 34
ACROSS = 3
COLOURS = {"yester": "#d9480f", "restic": "#1c7ed6", "borg": "#2f9e44", "rustic": "#9c36b5", "native": "#868e96"}
# What each plot shows, for those who do not see it.
SHOWN = {
    "files": "time, memory and size of the store over the number of files",
    "snapshots": "time to mount, to ingest and to list over the number of snapshots",
    "series": "size of the store over the nights",
}
ROWS = {
    "files": ["first ingest, cold, s", "unchanged ingest, cold, s", "mount ready, cold, s", "find -size, cold, s",
              "find -size, warm, s", "first ingest, cold, peak MB", "unchanged ingest, cold, peak MB", MOUNT_PEAK,
              "store, MB"],
    "snapshots": ["mount ready, cold, s", "unchanged ingest, cold, s", "list of snapshots, cold, s"],
}
# A grey that white and black set off alike.
STYLE = """text { font: 11px sans-serif; fill: #7a7a7a; } .title { font-weight: bold; }
.grid { stroke: #999; stroke-opacity: .3; } .line { fill: none; stroke-width: 1.8; }"""


def drawings(measured):
    """Returns the plots of what was measured, by the names of their files."""
    found = {}
    for name, rows in ROWS.items():
        if name in measured:
            found[f"{name}.svg"] = draw(name, [panel(measured[name], row) for row in rows], logarithmic)
    if "series" in measured:
        found["series.svg"] = draw("nights", [series_panel(measured["series"])], linear)
    return found


def panel(result, row):
    """Returns a title and the lines of one figure as it grows."""
    lines = {}
    for column, rounds in result["columns"].items():
        by_size = {}
        for figures in rounds:
            if isinstance(figures.get(row), (int, float)):
                by_size.setdefault(figures[OF], []).append(figures[row])
        if by_size:
            lines[column] = [(size, statistics.median(values)) for size, values in sorted(by_size.items())]
    return row, lines


def series_panel(result):
    """Returns what the store takes after each night."""
    lines = {}
    for column in result["columns"]:
        growth = [[night["MB"] for night in nights[column]] for nights in result["nights"] if column in nights]
        each = [statistics.median(values) for values in zip(*growth)]
        lines[column] = [(night, sum(each[:night])) for night in range(1, len(each) + 1)]
    return "store after each night, MB", lines


def draw(below, panels, axis):
    rows = -(-len(panels) // ACROSS)
    width, height = WIDTH * min(ACROSS, len(panels)), HEIGHT * rows + 24
    columns = [column for column in COLOURS if any(column in lines for _, lines in panels)]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
             f'height="{height}">', f"<style>{STYLE}</style>"]
    for number, column in enumerate(columns):
        x = 12 + 72 * number
        parts.append(f'<path d="M{x} 12h18" class="line" stroke="{COLOURS[column]}"/>'
                     f'<text x="{x + 23}" y="16">{column}</text>')
    for number, (title, lines) in enumerate(panels):
        x, y = WIDTH * (number % ACROSS), HEIGHT * (number // ACROSS) + 24
        parts.append(f'<g transform="translate({x} {y})">{"".join(draw_panel(title, lines, below, axis))}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def draw_panel(title, lines, below, axis):
    points = [point for line in lines.values() for point in line]
    if not points:
        return
    x_of, x_marks = axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y_of, y_marks = axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    yield f'<text x="{LEFT}" y="{TOP - 12}" class="title">{html.escape(title)}</text>'
    for mark in x_marks:
        yield (f'<path d="M{x_of(mark):.1f} {TOP}V{HEIGHT - BOTTOM}" class="grid"/>'
               f'<text x="{x_of(mark):.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{short(mark)}</text>')
    for mark in y_marks:
        yield (f'<path d="M{LEFT} {y_of(mark):.1f}H{WIDTH - RIGHT}" class="grid"/>'
               f'<text x="{LEFT - 5}" y="{y_of(mark) + 4:.1f}" text-anchor="end">{short(mark)}</text>')
    yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{below}</text>'
    for column, line in lines.items():
        path = "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in line)
        yield f'<path d="M{path}" class="line" stroke="{COLOURS[column]}"/>'
        yield "".join(f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="2" fill="{COLOURS[column]}"/>'
                      for x, y in line)


def linear(values, start, end):
    """Returns what places a value between two ends on a scale from zero, and round numbers within it."""
    high = max(values) * 1.05
    power = 10.0 ** math.floor(math.log10(high))
    step = next(step for step in (power / 5, power / 2, power, 2 * power) if high / step < 6)
    return lambda value: start + (end - start) * value / high, [step * number for number in range(int(high / step) + 1)]


def logarithmic(values, start, end):
    """Does the same on a logarithmic scale."""
    low, high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1
    if high - low < 1:
        low, high = (low + high - 1) / 2, (low + high + 1) / 2

    def place(value):
        return start + (end - start) * (math.log10(value) - low) / (high - low)

    def within(digits):
        powers = range(math.floor(low), math.ceil(high) + 1)
        return [digit * 10.0**power for power in powers for digit in digits if low <= math.log10(digit) + power <= high]

    return place, next((marks for marks in map(within, ([1], [1, 3], [1, 2, 5])) if len(marks) > 2), within([1, 2, 5]))


def short(value):
    """Formats a mark of an axis."""
    for size, unit in ((10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
