"""Writes tables and plots of docs/benchmarks.md from raw figures. What stands outside of the marks is kept as it is.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, and is written anew if NAME was measured.
"""

import json
import math
import re
import statistics

import plots
from growth import OF
from needs import REPOSITORY
from targets import ALONE, TARGETS

DOCUMENT = REPOSITORY / "docs/benchmarks.md"
SLOT = re.compile(r"(<!-- table: ([a-z0-9-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# With what the figures of this program are compared, where it is not restic.
RATIOS = {"tree": ["restic", "native"], "large": ["restic", "native"], "directory": ["restic", "native"],
          "sparse": ["native"], "restore": ["local file"], "reads": ["restic", "native"],
          "plain-tree": ["yester --no-delta"], "s3": ["restic", "yester, directory"]}


def write(folder, small):
    """Renders what was measured into the document; of small inputs, into a copy beside the figures."""
    folder = folder / "small" if small else folder
    target = folder / "benchmarks.md" if small else DOCUMENT
    measured = {path.stem: json.loads(path.read_text()) for path in sorted((folder / "results").glob("*.json"))}
    if "files" in measured:
        measured["many"] = largest(measured["files"])

    def fill(slot):
        head, name, end = slot.groups()
        return head + "\n".join(section(name, measured[name])) + f"\n{end}" if name in measured else slot[0]

    target.write_text(SLOT.sub(fill, DOCUMENT.read_text()))
    (target.parent / "plots").mkdir(exist_ok=True)
    for name, drawing in plots.drawings(measured).items():
        (target.parent / "plots" / name).write_text(drawing)
    print(f"wrote {target}")


def largest(result):
    """Returns the figures that were taken with most files, as a result of their own."""
    most = max(figures[OF] for rounds in result["columns"].values() for figures in rounds)
    columns = {column: [{row: value for row, value in figures.items() if row != OF}
                        for figures in rounds if figures[OF] == most]
               for column, rounds in result["columns"].items()}
    return result | {"columns": columns, "about": f"{most:,} files. {result['about']}"}


def section(name, result):
    versions = [*result["versions"], *([result["server"]] if "server" in result else [])]
    on = (f"{result['machine']}; {', '.join(versions)}; {result['date']}; medians of {result['rounds']} rounds by "
          f"`{result['command']}`.")
    grown = any(OF in figures for rounds in result["columns"].values() for figures in rounds)
    lines = [result["about"], "", on, *result["notes"], "", *(grown_table if grown else table)(name, result), ""]
    return lines + ([f"![{plots.SHOWN[name]}](plots/{name}.svg)", ""] if name in plots.SHOWN else [])


def table(name, result):
    """One line for each figure, one column for each program, ratios, and what was to be reached."""
    medians, targets, ratios = medians_of(result["columns"]), TARGETS.get(name, {}), RATIOS.get(name, ["restic"])
    ratios = [column for column in ratios if column in medians]
    lines = head([*medians, *(f"yester / {column}" for column in ratios), *(["target"] if targets else [])])
    for row in rows_of(medians):
        values = {column: figures.get(row) for column, figures in medians.items()}
        cells = [shown(value) for value in values.values()]
        cells += [shown(ratio(values["yester"], values[column])) for column in ratios]
        cells += [verdicts(targets.get(row, ()), values)] if targets else []
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return lines


def grown_table(name, result):
    """One line for each figure of each program, one column for each size."""
    sizes = sorted({figures[OF] for rounds in result["columns"].values() for figures in rounds})
    medians = {size: medians_of(result["columns"], size) for size in sizes}
    targets = TARGETS.get(name, {})
    lines = head(["", *(f"{size:,}" for size in sizes), *(["target"] if targets else [])])
    for row in rows_of(medians[sizes[-1]]):
        label = row
        for column in result["columns"]:
            values = [medians[size][column].get(row) for size in sizes]
            if any(value is not None for value in values):
                reached = verdicts(targets.get(row, ()), {"yester": values[-1]}) if column == "yester" else "—"
                cells = [label, column, *map(shown, values), *([reached] if targets else [])]
                lines.append(f"| {' | '.join(cells)} |")
                label = ""
    return lines


def head(headings):
    return ["| | " + " | ".join(headings) + " |", "|---" * (len(headings) + 1) + "|"]


def rows_of(medians):
    return list(dict.fromkeys(row for figures in medians.values() for row in figures if row != OF))


def medians_of(columns, size=None):
    """Returns the median of every figure; one that was cut off counts as more than any other."""
    return {column: {row: median([figures[row] for figures in rounds if row in figures and figures.get(OF) == size])
                     for row in rows_of(dict(enumerate(rounds)))
                     if any(row in figures and figures.get(OF) == size for figures in rounds)}
            for column, rounds in columns.items()}


def median(values):
    ended = [math.inf if isinstance(value, dict) else value for value in values]
    found = statistics.median(ended)
    return next(value for value in values if isinstance(value, dict)) if math.isinf(found) else found


def ratio(above, below):
    return above / below if isinstance(above, (int, float)) and isinstance(below, (int, float)) and below else None


def verdicts(targets, values):
    return "; ".join(verdict(limit, against, values) for limit, against in targets) or "—"


def verdict(limit, against, values):
    wanted = f"≤ {limit:,}" if against is ALONE else f"≤ {limit} × {against}"
    value = values.get("yester")
    reached = value if against is ALONE else ratio(value, values.get(against))
    if isinstance(reached, (int, float)):
        return f"{wanted}: {'met' if reached <= limit else '**missed**'}"
    return f"{wanted}: {'**missed**, cut off' if isinstance(value, dict) else 'not compared'}"


def shown(value):
    """Formats a number with three digits or as a whole, so that small ratios remain readable."""
    if value is None:
        return "—"
    if isinstance(value, dict):
        return f"> {value['over_seconds']:,} s"
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"
