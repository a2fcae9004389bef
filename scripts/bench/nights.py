"""What a night costs where things change little: dumps of a database night by night, and pairs of other things."""

import statistics
import subprocess

import inputs
import night_inputs
from bench import Result, in_turn, left_out_on_failure, note
from night_inputs import DUMP
from peers import Yester, fresh_stores
from servers import Postgres
from tools import Failed

NO_DELTA = "yester --no-delta"
# What pg_dump could not fill in, nine bytes for each of two tables, and some to spare.
COMPLETED_BYTES = 100
CHANGED = {"redis": night_inputs.redis_dumps, "sqlite": night_inputs.sqlite_files, "tar": night_inputs.release_tars}
CHANGED_NAMES = {"redis": "Redis, 1,000 of 200,000 keys set", "sqlite": "SQLite, 0.5 % of the rows updated",
                 "tar": f"tar of Django {' and '.join(night_inputs.DJANGO)}"}


def with_no_delta(bench):
    """Returns this program as it is without differences."""
    return Yester(bench.yester.binary, bench.folder / "yester-no-delta-run", NO_DELTA, ["--no-delta"])


def one_night(tool, ingest):
    """Runs an ingest and returns what it took, and the MB that the store grew by."""
    before = tool.stored_mb()
    step = ingest()
    growth = tool.stored_mb() - before
    return {"s": step.seconds, "core s": step.core_seconds, "MB": growth, "peak MB": step.peak_mb}


def must_come_back(tool, name, path, may_differ=0):
    """Compares what a tool stored last with the file that went in, up to some bytes that may differ."""
    reading = subprocess.Popen(tool.reading(name), env=tool.environment, stdout=subprocess.PIPE)
    differing = 0
    try:
        with open(path, "rb") as file:
            while True:
                expected = file.read(1 << 20)
                found = reading.stdout.read(len(expected) or 1)
                if len(found) != len(expected):
                    raise Failed(f"{tool.name} gives {path} back with another length")
                if not expected:
                    break
                if found != expected:
                    differing += sum(one != other for one, other in zip(found, expected))
        if reading.wait(60) != 0 or differing > may_differ:
            raise Failed(f"{tool.name} gives {path} back with {differing} other bytes")
    finally:
        reading.kill()
        reading.wait()


def measure_dump(bench):
    """Nights in sequence, the tools in turn each night; a further night straight from pg_dump."""
    dumps, tools = bench.dumps(), [*bench.tools, with_no_delta(bench)]
    sizes = [path.stat().st_size / 10**6 for path in dumps.piped]
    about = (f"{night_inputs.ROWS * bench.sizes['nights']:,.0f} orders and a tenth as many shipments; each night 0.5 % "
             f"of the orders are deleted, 0.5 % updated and as many new, scattered, then VACUUM. Five dumps by "
             f"`pg_dump -Fc -Z0` into a pipe, of {min(sizes):,.0f} to {max(sizes):,.0f} MB. All programs get the same "
             f"bytes as standard input; the store is cold, the dump in the page cache, as if it came from a pipe. The "
             f"last two lines run pg_dump itself on a sixth night, its database cold.")
    result = Result(bench, "dump", about, [tool.name for tool in tools])
    result.data["nights"] = []
    for number in range(bench.runs):
        nights = {tool.name: [] for tool in tools}
        with fresh_stores(*tools):
            for night, path in enumerate(dumps.piped):
                note(f"dump, round {number + 1} of {bench.runs}, night {night + 1}")
                for tool in in_turn(tools, number + night):
                    with left_out_on_failure(tools, tool, result):
                        nights[tool.name].append(one_night(tool, lambda: tool.ingest_stream(DUMP, path)))
            for tool in list(tools):
                with left_out_on_failure(tools, tool, result):
                    must_come_back(tool, DUMP, path, COMPLETED_BYTES if tool.is_subject else 0)
            note("one more, straight from pg_dump")
            piped = {}
            for tool in in_turn(tools, number):
                # The server is started for each, since it keeps what it has read.
                with left_out_on_failure(tools, tool, result), Postgres(dumps.cluster) as server:
                    result.data["server"] = server.version()
                    command = server.client("pg_dump", "-Fc", "-Z0", "shop")
                    piped[tool.name] = one_night(tool, lambda: tool.ingest_command(DUMP, command))
        result.data["nights"].append({"nights": nights, "piped": piped})
        for tool in tools:
            result.add(tool.name, dump_figures(nights[tool.name], piped[tool.name]))
    result.finish()


def dump_figures(nights, piped):
    first, later = nights[0], nights[1:]

    def median(name):
        return statistics.median(night[name] for night in later)

    return {
        "first night, store, MB": first["MB"],
        "later night, growth, MB": median("MB"),
        "first night, s": first["s"],
        "later night, s": median("s"),
        "first night, seconds of all cores": first["core s"],
        "later night, seconds of all cores": median("core s"),
        "first night, peak MB": first["peak MB"],
        "later night, peak MB": median("peak MB"),
        "later night with pg_dump, growth, MB": piped["MB"],
        "later night with pg_dump, s": piped["s"],
    }


def measure_series(bench):
    """Ingests night after night with all tools in turn."""
    path = bench.nights / "series.rows"
    rows = night_inputs.SERIES_ROWS * bench.sizes["nights"]
    about = (f"{night_inputs.SERIES_NIGHTS} nights of a table of {rows:,.0f} rows as text, written by a script: each "
             f"night 0.5 % of them are deleted, 0.5 % updated and as many new, scattered.")
    tools = list(bench.tools)
    result = Result(bench, "series", about, [tool.name for tool in tools])
    result.data["nights"] = []
    for number in range(bench.runs):
        nights = {tool.name: [] for tool in tools}
        with fresh_stores(*tools):
            for night in night_inputs.series(path, bench.sizes["nights"]):
                note(f"series, round {number + 1} of {bench.runs}: night {night}")
                for tool in in_turn(tools, night):
                    with left_out_on_failure(tools, tool, result):
                        nights[tool.name].append(one_night(tool, lambda: tool.ingest_stream("rows", path)))
            for tool in list(tools):
                with left_out_on_failure(tools, tool, result):
                    must_come_back(tool, "rows", path)
        path.unlink()
        result.data["nights"].append({tool.name: nights[tool.name] for tool in tools})
        for tool in tools:
            result.add(tool.name, series_figures(nights[tool.name]))
    result.finish()


def series_figures(nights):
    growth, later = [night["MB"] for night in nights], nights[1:]
    return {
        "first night, store, MB": growth[0],
        "nights 2 to 5, growth of each, MB": statistics.mean(growth[1:5]),
        "nights 2 to 24, growth of each, MB": statistics.mean(growth[1:]),
        "nights 17 to 24, growth of each, MB": statistics.mean(growth[16:]),
        "all nights, store, MB": sum(growth),
        "later night, median, s": statistics.median(night["s"] for night in later),
        "last night, s": nights[-1]["s"],
    }


def measure_plain_tree(bench):
    """Ingests the tree of source files with differences and without, in turn."""
    tree, tools = inputs.source_tree(bench.folder, bench.small), [with_no_delta(bench), bench.yester]
    # What is to be seen is little beside the noise.
    rounds = bench.runs + 2
    about = "The tree of source files, each time into an empty store."
    result = Result(bench, "plain-tree", about, [tool.name for tool in tools], rounds)
    for number in range(rounds):
        for tool in in_turn(tools, number):
            note(f"plain tree, round {number + 1} of {rounds}: {tool.name}")
            with tool.fresh_store():
                night = one_night(tool, lambda: tool.ingest(tree))
            result.add(tool.name, {"first ingest, cold, s": night["s"], "seconds of all cores": night["core s"],
                                   "peak MB": night["peak MB"], "store, MB": night["MB"]})
    result.finish()


def measure_others(bench):
    """Ingests each pair one after the other, with all tools in turn."""
    pairs = {case: make(bench.nights, bench.sizes["nights"]) for case, make in CHANGED.items()}
    tools = [*bench.tools, with_no_delta(bench)]
    sizes = ", ".join(f"{case} {after.stat().st_size / 10**6:,.0f} MB" for case, (_, after) in pairs.items())
    about = (f"Each once before and once after a change, as standard input: what `redis-cli --rdb -` prints, the "
             f"server running on; a SQLite database file, no VACUUM between; a tar sorted by name with fixed times. "
             f"{sizes}.")
    result = Result(bench, "others", about, [tool.name for tool in tools])
    for number in range(bench.runs):
        figures = {tool.name: {} for tool in tools}
        for case, (before, after) in pairs.items():
            note(f"others, round {number + 1} of {bench.runs}: {case}")
            name = CHANGED_NAMES[case]
            with fresh_stores(*tools):
                for tool in in_turn(tools, number):
                    with left_out_on_failure(tools, tool, result):
                        first = one_night(tool, lambda: tool.ingest_stream(case, before))
                        second = one_night(tool, lambda: tool.ingest_stream(case, after))
                        must_come_back(tool, case, after)
                        figures[tool.name] |= {f"{name}: first, MB": first["MB"], f"{name}: growth, MB": second["MB"],
                                               f"{name}: first, s": first["s"], f"{name}: second, s": second["s"]}
        for tool in tools:
            result.add(tool.name, figures[tool.name])
    result.finish()
