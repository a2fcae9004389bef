"""A night that cron starts, in which little changed, beside the peers: backups, retention, giving back, a check."""

import contextlib

import inputs
from bench import Result, Taker, in_turn, note
from crons import KEPT, SAMPLE, BorgNight, ResticNight, RusticNight, Source, YesterNight
from peers import Yester

PASSPHRASE = "yester, passphrase"
PEERS = {"restic": ResticNight, "borg": BorgNight, "rustic": RusticNight}
# A command's output: so many lines, of which so many are others each night.
LINES, CHANGED_LINES = 10_000, 100
CHANGED = (f"of each tree of {inputs.CHANGING_FILES:,} small files {inputs.CHANGED_EACH_NIGHT}, and {CHANGED_LINES} of "
           f"{LINES:,} lines that a command prints")


class Sources:
    """Small trees that change, and what a command prints; a large tree is backed up with each small one."""

    def __init__(self, folder, trees, large=None):
        self.rows, self.count = folder / "rows", 0
        names = [f"tree{number}" for number in range(trees)]
        self.folders = {name: inputs.changing_tree(folder / name, number) for number, name in enumerate(names)}
        paths = {name: [folder / name, *([large] if large else [])] for name in names}
        self.all = [*(Source(name, paths[name]) for name in names), Source("rows", (), ("cat", str(self.rows)))]

    def change(self):
        """Changes 1 % of the files of each small tree, and as many lines of what the command prints."""
        for folder in self.folders.values():
            next(folder)
        self.count += 1
        lines = (f"{number:08} {self.count if number % (LINES // CHANGED_LINES) == 0 else 0:08} {number * 7919:016x}\n"
                 for number in range(LINES))
        self.rows.write_text("".join(lines))

    def path_of(self, source):
        """Returns a file of a source that was among the last to change."""
        if source.command:
            return self.rows
        return max(source.paths[0].rglob("*.json"), key=lambda path: path.stat().st_mtime_ns)


def measure_runs(bench):
    kinds = {"1 tree, a command": (1, None), "4 trees, a command": (4, None), "8 trees, a command": (8, None),
             "the source tree, a command": (1, inputs.source_tree(bench.folder, bench.small))}
    about = (f"A night in which little changed: {CHANGED}; with the source tree, one such tree beside it. All sources "
             f"are backed up, the last {KEPT} snapshots of each are kept, what others took is given back, and {SAMPLE} "
             f"of the store are verified. *yester* opens its store by a key file, all others by a passphrase.")
    columns = [*(tool.name for tool in bench.tools), PASSPHRASE]
    result = Result(bench, "runs", about, columns)
    takers = {column: Taker(bench, result, column) for column in columns}
    for name, (trees, large) in kinds.items():
        with bench.scratch() as scratch, contextlib.ExitStack() as stores:
            sources, nights = Sources(scratch, trees, large), {}
            for column in columns:
                nights[column] = stores.enter_context(prepared(night_of(bench, column, sources.all)))
            for _ in range(KEPT):
                note(f"runs, {name}: a night before")
                sources.change()
                for night in nights.values():
                    night.run(cold=False)
            for number in range(bench.runs):
                sources.change()
                for column in in_turn(columns, number):
                    note(f"runs, {name}, round {number + 1} of {bench.runs}: {column}")
                    is_begun = len(result.data["columns"][column]) > number
                    with takers[column].round(number=number if is_begun else None):
                        takers[column].take(f"{name}, cold", lambda: nights[column].run(cold=True), peak=True,
                                            cores=True)
            for night in nights.values():
                night.must_hold(sources.path_of)
    result.finish()


@contextlib.contextmanager
def prepared(night):
    """Gives a night whose store is made, and taken away after the block."""
    night.tool.remove_store()
    night.folder.mkdir(parents=True)
    try:
        night.prepare()
        yield night
    finally:
        night.tool.remove_store()


def night_of(bench, column, sources):
    """Returns the night of a peer, or of this program in one of its ways."""
    if column in bench.peers():
        return PEERS[column](bench.tool(column), sources)
    key = "passphrase" if column == PASSPHRASE else "key-file"
    return YesterNight(Yester(bench.yester.binary, bench.folder / f"yester-{key}-run", column), sources, key)
