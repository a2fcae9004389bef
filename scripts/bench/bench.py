"""What every workload needs: the folder, the programs, how large the inputs are, and where its figures go."""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import shutil
import sys

import needs
import night_inputs
from tools import CutOff, Failed

# What reads or makes a mount is cut off after so long, unless an option says otherwise.
READING_LIMIT_SECONDS = 300
MOUNT_PEAK = "mount, all of this, peak MB"
# How large the inputs are: as published, and small enough for the whole suite to run in some minutes.
FULL = {"nights": 1, "large_bytes": 5 * 10**9, "files": [10**4, 10**5, 10**6, 2 * 10**6], "directory_files": 300_000,
        "sparse_bytes": 100 * 10**9, "snapshots": [1, 10, 100, 1000], "chunks": [250_000, 500_000, 10**6]}
SMALL = {"nights": 0.01, "large_bytes": 40 * 10**6, "files": [100, 300, 1000], "directory_files": 1000,
         "sparse_bytes": 10**9, "snapshots": [1, 5, 20], "chunks": [1000, 2000]}

# What has to be compared with these takes hours: they are measured in the first round, and where it is not too large.
MEASURED_ONCE = ("borg", "rustic")
# So many are removed at once without leaving a trace in the next figures.
FEW_FILES = 1000


class Bench:
    def __init__(self, options):
        self.runs, self.small, self.limit_seconds = options.runs, options.small, options.limit
        self.options = [f"--without {name}" for name in options.without]
        self.options += [f"--limit {options.limit}"] if options.limit != READING_LIMIT_SECONDS else []
        self.options += ["--small"] if options.small else []
        self.sizes = SMALL if options.small else FULL
        self.folder = options.folder / "small" if options.small else options.folder
        self.results = self.folder / "results"
        self.results.mkdir(parents=True, exist_ok=True)
        self.discarded = self.folder / "discarded"
        self.remove_discarded()
        self.tools = needs.tools(options.folder, self.folder, options.without, options.yester)
        self.yester = self.tools[-1]
        self.nights = self.folder / "nights"
        self.nights.mkdir(exist_ok=True)

    def tool(self, name):
        """Returns a peer, or none if it was left out."""
        return next((tool for tool in self.tools if tool.name == name), None)

    def peers(self):
        return [tool.name for tool in self.tools if tool is not self.yester]

    def dumps(self):
        return night_inputs.dumps(self.nights, self.sizes["nights"])

    @contextlib.contextmanager
    def scratch(self):
        """Gives a folder that is gone after the block."""
        folder = self.folder / "scratch"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def discard(self, tree):
        """Takes what was restored out of the way.

        For minutes after it lost thousands of files, ext4 is slow to make as many: whatever is measured next would pay
        for it. They go when everything is measured.
        """
        if sum(len(files) for _, _, files in os.walk(tree)) < FEW_FILES:
            shutil.rmtree(tree, ignore_errors=True)
            return
        self.discarded.mkdir(exist_ok=True)
        tree.rename(self.discarded / str(len(os.listdir(self.discarded))))

    def remove_discarded(self):
        shutil.rmtree(self.discarded, ignore_errors=True)


class Result:
    """The raw figures of one workload: of every column a dictionary for each round.

    They are saved after every round, but count only when all are there: until then those of an earlier run stand.
    """

    def __init__(self, bench, workload, about, columns, rounds=None):
        self.path = bench.results / f"{workload}.json"
        self.data = {
            "workload": workload, "about": about, "runs": bench.runs, "rounds": rounds or bench.runs,
            "command": " ".join(["scripts/bench/all", f"--only {workload} --runs {bench.runs}", *bench.options]),
            "machine": machine(bench.folder),
            "versions": [tool.version() for tool in bench.tools], "date": str(datetime.date.today()), "notes": [],
            "columns": {column: [] for column in columns},
        }

    def add(self, column, figures):
        self.data["columns"][column].append(figures)
        self.save()

    def note(self, text):
        if text not in self.data["notes"]:
            self.data["notes"].append(text)

    def save(self):
        self.path.with_suffix(".part").write_text(json.dumps(self.data, indent=1) + "\n")

    def finish(self):
        self.save()
        self.path.with_suffix(".part").rename(self.path)


class Taker:
    """Takes the figures of one column, round after round. What was cut off once is not tried again.

    What a peer cannot do is left out of the table and said below it; this program must do all of it.
    """

    def __init__(self, bench, result, column):
        self.result, self.column, self.limit_seconds = result, column, bench.limit_seconds
        self.must_succeed = column not in bench.peers()
        self.cut, self.figures, self.number = {}, {}, 0

    @contextlib.contextmanager
    def round(self, label=(), number=None):
        """Begins a round, or goes on with an earlier one; what it gives is saved even if it ends early."""
        rounds = self.result.data["columns"][self.column]
        if number is None:
            number = len(rounds)
            rounds.append(dict(label))
        self.figures, self.number = rounds[number], number
        self.label = "".join(f" of {value}" for value in dict(label).values())
        try:
            yield
        except Stopped:
            pass
        self.result.save()

    @contextlib.contextmanager
    def attempt(self, row):
        """Ends what the block is a part of if the block is cut off or fails; what it would have given is `row`."""
        if row + self.label in self.cut:
            self.figures[row] = self.cut[row + self.label]
            raise Stopped
        try:
            yield
        except CutOff as cut:
            self.cut[row + self.label] = self.figures[row] = {"over_seconds": cut.seconds}
            raise Stopped from cut
        except Failed as failed:
            if self.must_succeed:
                raise
            print(f"{self.column}: {failed}", file=sys.stderr)
            self.result.note(f"{self.column} failed at: {row.split(',')[0]}{self.label}.")
            raise Stopped from failed

    def take(self, name, run, peak=False, cores=False):
        """Notes what a step took."""
        with self.attempt(f"{name}, s"):
            step = run()
        self.figures[f"{name}, s"] = step.seconds
        if cores:
            self.figures[f"{name}, seconds of all cores"] = step.core_seconds
        if peak:
            self.figures[f"{name}, peak MB"] = step.peak_mb

    def take_all(self, name, runs, peak=False):
        """Notes what some commands took together."""
        with self.attempt(f"{name}, s"):
            steps = [run() for run in runs]
        self.figures[f"{name}, s"] = sum(step.seconds for step in steps)
        if peak:
            self.figures[f"{name}, peak MB"] = max(step.peak_mb for step in steps)


@contextlib.contextmanager
def mounted(taker, tool, path, name="tree", label="mount ready, cold"):
    """Mounts and notes how long that took, and in the end the most memory that serving took."""
    with contextlib.ExitStack() as stack:
        with taker.attempt(f"{label}, s"):
            mount = stack.enter_context(tool.mounted(path, name, taker.limit_seconds))
        taker.figures.setdefault(f"{label}, s", mount.seconds)
        try:
            yield mount
        finally:
            # The last line of the table, whatever was read from however many mounts.
            peaks = [peak for peak in (taker.figures.pop(MOUNT_PEAK, None), mount.peak_mb()) if peak is not None]
            if peaks:
                taker.figures[MOUNT_PEAK] = max(peaks)


def mounted_without_passphrase(taker, tool, path):
    """Notes how long a mount takes that no passphrase opens, where a tool has that."""
    opened = tool.without_passphrase()
    if opened:
        with part(), mounted(taker, opened, path, label="mount ready with a key file, cold"):
            pass


class Stopped(Exception):
    """A step was cut off or failed, so that what builds on it cannot be measured."""


@contextlib.contextmanager
def part():
    """A part of a round: if a step in it is stopped, only the rest of the part is left out."""
    with contextlib.suppress(Stopped):
        yield


@contextlib.contextmanager
def left_out_on_failure(tools, tool, result):
    """Takes a peer that fails out of the tools that are still measured; this program must do all of it."""
    try:
        yield
    except (Failed, CutOff) as error:
        if tool.is_subject:
            raise
        tools.remove(tool)
        print(f"{tool.name}: {error}", file=sys.stderr)
        result.note(f"{tool.name} failed, and was left out from then on.")


def is_due(name, number):
    """Tells whether a program is measured in this round."""
    return number == 0 or name not in MEASURED_ONCE


def in_turn(things, number):
    """Returns the same things with another one first, so that none always comes first."""
    things = list(things)
    return things[number % len(things):] + things[:number % len(things)]


def note(what):
    print(f"{datetime.datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)


def machine(folder):
    """Describes what the figures were measured on."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"Linux {platform.release()}, {processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {file_system(folder)}"


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def file_system(folder):
    """Returns the kind of file system that holds a folder."""
    mounts = [line.split()[1:3] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    above = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1]
