"""What it takes to forget, and to give the space back: beside the peers, and with up to a million chunks."""

import inputs
from bench import Result, Taker, in_turn, note
from growth import OF
from peers import Yester

FORGET = "forget and give back, cold"


def measure_garbage(bench):
    """Half of what the first snapshot holds is in the second one; the first is forgotten, and its space given back."""
    tree = inputs.source_tree(bench.folder, bench.small)
    packages = sorted(path for path in tree.iterdir())
    about = (f"A snapshot of the source tree, then one of every second package in it ({len(packages) // 2:,} of "
             f"{len(packages):,}). The first is forgotten, and what it alone took is given back: by restic as it comes "
             "(`--prune` leaves 5 % of what is unused), by rustic with `--instant-delete`, by borg with `compact`.")
    result = Result(bench, "garbage", about, [tool.name for tool in bench.tools])
    takers = {tool.name: Taker(bench, result, tool.name) for tool in bench.tools}
    for number in range(bench.runs):
        for tool in in_turn(bench.tools, number):
            note(f"garbage, round {number + 1} of {bench.runs}: {tool.name}")
            with takers[tool.name].round(), tool.fresh_store():
                halve(takers[tool.name], tool, packages)
    result.finish()


def halve(taker, tool, packages):
    tool.ingest(*packages, cold=False)
    tool.ingest(*packages[::2], cold=False)
    taker.figures["store before, MB"] = tool.stored_mb()
    taker.take_all(FORGET, tool.keep_last(), peak=True)
    taker.figures["store after, MB"] = tool.stored_mb()
    tool.verify()


def measure_chunks(bench):
    """Two sources of as many chunks, of which one is forgotten. Alone: peers have no chunks so small."""
    about = ("Random bytes in chunks of 5 kB on average (`init --chunk-size 4K`), in two sources, of which one is "
             "forgotten. The sizes are chunks, about.")
    tool = Yester(bench.yester.binary, bench.yester.folder, init_options=["--chunk-size", "4K"])
    result = Result(bench, "chunks", about, [tool.name])
    taker = Taker(bench, result, tool.name)
    for number in range(bench.runs):
        for chunks in bench.sizes["chunks"]:
            note(f"chunks, round {number + 1} of {bench.runs}: {chunks:,}")
            with taker.round({OF: chunks}), tool.fresh_store():
                # Between the least and the average size of the cutter lies what chunks have on average.
                size = str(chunks // 2 * 4985)
                for name in ("first", "second"):
                    tool.ingest_command(name, ["head", "-c", size, "/dev/urandom"])
                taker.figures["store, MB"] = tool.stored_mb()
                taker.take("gc without garbage, cold", tool.collect, peak=True)
                tool.run("forget", "--force", "latest:first", cold=False)
                taker.take("gc of half, cold", tool.collect, peak=True)
                taker.figures["store after, MB"] = tool.stored_mb()
    result.finish()
