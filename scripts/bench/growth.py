"""How cost grows: with the number of files in a snapshot, and with the number of snapshots in a store.

Figures say under OF how many they were taken with.
"""

import inputs
from bench import (
    MEASURED_ONCE, Result, Taker, in_turn, is_due, left_out_on_failure, mounted, mounted_without_passphrase, note, part,
)
from peers import fresh_stores
from readings import find_twice

OF = "of"
# Beyond these numbers restic alone of the peers is measured, and files are once: the others take hours.
FILES_OF_ALL, SNAPSHOTS_OF_ALL = 10**5, 100


def measure_files(bench):
    sizes = bench.sizes["files"]
    parts = inputs.growing_tree(bench.folder, sizes)
    about = (f"Files of at most 2,000 bytes, 1,000 in a directory. Beyond {FILES_OF_ALL:,} files, everything is "
             "measured once.")
    result = Result(bench, "files", about, [tool.name for tool in bench.tools] + ["native"])
    takers = {name: Taker(bench, result, name) for name in result.data["columns"]}
    for number in range(bench.runs):
        for count, size in enumerate(sizes, start=1):
            for tool in in_turn([*bench.tools, None], number + count):
                name = tool.name if tool else "native"
                if not (is_due(name, number) if size <= FILES_OF_ALL else number == 0 and name not in MEASURED_ONCE):
                    continue
                note(f"files, round {number + 1} of {bench.runs}: {size:,} with {name}")
                with takers[name].round({OF: size}):
                    if tool is None:
                        find_twice(takers[name], *parts[:count])
                    else:
                        with tool.fresh_store():
                            job_of_files(takers[name], tool, parts[:count])
    result.finish()


def job_of_files(taker, tool, paths):
    taker.take("first ingest, cold", lambda: tool.ingest(*paths), peak=True)
    taker.figures["store, MB"] = tool.stored_mb()
    taker.take("unchanged ingest, cold", lambda: tool.ingest(*paths), peak=True)
    with part():
        taker.take("verify all data, cold", tool.verify, peak=True)
    with part(), mounted(taker, tool, paths[-1]) as mount:
        find_twice(taker, *(mount.at(path) for path in paths))
    mounted_without_passphrase(taker, tool, paths[-1])


def measure_snapshots(bench):
    """Adds snapshots of a tree that changes a little; at each mark, measures what their number should not cost."""
    marks, nights = bench.sizes["snapshots"], inputs.changing_tree(bench.folder / "changing")
    about = (f"A tree of {inputs.CHANGING_FILES:,} small files, of which {inputs.CHANGED_EACH_NIGHT} change before "
             f"each snapshot. At each number of snapshots everything is measured {bench.runs} times, which adds as "
             f"many snapshots of what did not change; beyond {SNAPSHOTS_OF_ALL}, of the peers restic alone.")
    result = Result(bench, "snapshots", about, [tool.name for tool in bench.tools])
    takers = {tool.name: Taker(bench, result, tool.name) for tool in bench.tools}
    tools = list(bench.tools)
    with fresh_stores(*tools):
        for count in range(1, marks[-1] + 1):
            tree = next(nights)
            if count > SNAPSHOTS_OF_ALL:
                tools = [tool for tool in tools if tool.name not in MEASURED_ONCE]
            for tool in in_turn(tools, count):
                with left_out_on_failure(tools, tool, result):
                    tool.ingest(tree, cold=False)
            if count in marks:
                measure_mark(bench, tools, takers, tree, count)
    result.finish()


def measure_mark(bench, tools, takers, tree, count):
    for number in range(bench.runs):
        for tool in in_turn(tools, number):
            note(f"snapshots, {count}, round {number + 1} of {bench.runs}: {tool.name}")
            taker = takers[tool.name]
            with taker.round({OF: count}):
                with part():
                    taker.take("list of snapshots, cold", tool.snapshots, peak=True)
                with part(), mounted(taker, tool, tree):
                    pass
                mounted_without_passphrase(taker, tool, tree)
                taker.take("unchanged ingest, cold", lambda: tool.ingest(tree), peak=True)
                taker.figures["store, MB"] = tool.stored_mb()
