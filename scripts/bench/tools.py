"""What the benchmarks measure with: timed commands, restic and yester behind one set of methods, and the table."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

import inputs

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# A step that takes longer hangs.
LIMIT_SECONDS = 3600


class Step:
    """One timed command: seconds of wall clock and of all cores, and the peak memory of its largest process in MiB."""

    def __init__(self, seconds, core_seconds, peak_mib):
        self.seconds = seconds
        self.core_seconds = core_seconds
        self.peak_mib = peak_mib


def drop_page_cache():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def timed(command, environment, cold, source=os.devnull, limit_seconds=LIMIT_SECONDS):
    """Runs a command and measures it with the kernel's own accounting of the finished process.

    A file that it is given as its standard input is read once before, so that only the program is measured.
    """
    if cold:
        drop_page_cache()
    read_once(source)
    with open(source, "rb") as standard_input:
        started = time.monotonic()
        child = subprocess.Popen(command, env=environment, stdin=standard_input, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, start_new_session=True)
    timer = threading.Timer(limit_seconds, end_group, [child.pid])
    timer.start()
    try:
        errors = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
    except BaseException:
        end_group(child.pid)
        raise
    finally:
        timer.cancel()
    seconds = time.monotonic() - started
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        reason = f"took more than {limit_seconds} s" if seconds > limit_seconds else f"ended with {code}"
        sys.exit(f"{' '.join(map(str, command))} {reason}:\n{errors.decode(errors='replace')}")
    return Step(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def end_group(leader):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def read_once(path):
    """Reads a file, so that the page cache holds it."""
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def stored_mib(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file()) / 2**20


def must_be_equal(left, right):
    subprocess.run(["diff", "-r", "--no-dereference", left, right], check=True)


class Restic:
    name = "restic"

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.restore_options = []
        self.environment = os.environ | {
            "RESTIC_REPOSITORY": str(folder / "store"),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(folder / "cache"),
        }

    def run(self, *arguments, cold=True, source=os.devnull):
        return timed([self.binary, "--quiet", *arguments], self.environment, cold, source)

    def version(self):
        return subprocess.check_output([self.binary, "version"], text=True).split(" compiled")[0]

    def create(self):
        self.run("init")

    def ingest(self, tree):
        return self.run("backup", str(tree))

    def ingest_stream(self, name, source):
        return self.run("backup", "--stdin", "--stdin-filename", name, source=source)

    def ingest_command(self, name, command):
        return self.run("backup", "--stdin-from-command", "--stdin-filename", name, "--", *command)

    def reading(self, name):
        """Returns the command that prints a file of the latest snapshot."""
        return [self.binary, "--quiet", "dump", "latest", name]

    def restore(self, target):
        return self.run("restore", "latest", *self.restore_options, "--target", str(target))

    def verify(self):
        return self.run("check", "--read-data")


class Yester:
    def __init__(self, binary, folder, name="yester", ingest_options=()):
        self.binary, self.folder, self.name, self.ingest_options = binary, folder, name, ingest_options
        self.environment = os.environ | {
            "YESTER_STORE": str(folder / "store"),
            "YESTER_PASSPHRASE": "bench",
            "CACHE_DIRECTORY": str(folder / "cache"),
            "STATE_DIRECTORY": str(folder / "state"),
        }

    def run(self, *arguments, cold=True, source=os.devnull):
        return timed([self.binary, *arguments], self.environment, cold, source)

    def version(self):
        return subprocess.check_output([self.binary, "--version"], text=True).strip()

    def create(self):
        self.run("init")

    def ingest(self, tree):
        return self.run("ingest", *self.ingest_options, "--source", "tree", str(tree))

    def ingest_stream(self, name, source):
        return self.run("ingest", *self.ingest_options, "--as", name, source=source)

    def ingest_command(self, name, command):
        return self.run("ingest", *self.ingest_options, "--as", name, "--", *command)

    def reading(self, name):
        """Returns the command that prints a file of the latest snapshot."""
        return [self.binary, "cat", "latest", name]

    def snapshots(self):
        """Returns the ids of all snapshots, oldest first."""
        answer = subprocess.check_output([self.binary, "snapshots", "--json"], env=self.environment)
        return [snapshot["id"] for snapshot in json.loads(answer)]

    def restore(self, target):
        return self.run("restore", "latest", "--to", str(target))

    def verify(self):
        return self.run("verify")


def both_tools(folder):
    """Returns restic and this program, built for release, each with a folder of its own."""
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=REPOSITORY, check=True)
    return [
        Restic(inputs.restic(folder), folder / "restic-run"),
        Yester(REPOSITORY / "target/release/yester", folder / "yester-run"),
    ]


def measure(tool, tree, must_be_same=must_be_equal):
    """Runs the whole job once with one tool; returns its figures by name. Leaves the store in the tool's folder."""
    shutil.rmtree(tool.folder, ignore_errors=True)
    tool.folder.mkdir(parents=True)
    figures = {}

    def note(name, step):
        figures[f"{name}, s"] = step.seconds
        figures[f"{name}, peak MiB"] = step.peak_mib

    tool.create()
    note("first ingest, cold", tool.ingest(tree))
    figures["store, MiB"] = stored_mib(tool.folder / "store")
    note("unchanged ingest, cold", tool.ingest(tree))
    note("restore, cold", tool.restore(tool.folder / "restored"))
    must_be_same(tree, f"{tool.folder / 'restored'}{tree}")
    shutil.rmtree(tool.folder / "restored")
    note("verify all data, cold", tool.verify())
    return figures


def table(columns):
    """Prints medians as a Markdown table with the ratio of yester to restic."""
    print("\n".join(table_lines(columns)))


def table_lines(columns, ratio=("yester", "restic"), targets=None):
    """Formats medians as a Markdown table, with the ratio of one column to another, and what it is to be."""
    names = list(dict.fromkeys(name for rounds in columns.values() for figures in rounds for name in figures))
    headings = [*columns, " / ".join(ratio)] + ([] if targets is None else ["target"])
    lines = ["| | " + " | ".join(headings) + " |", "|---" * (len(headings) + 1) + "|"]
    for name in names:
        medians = {}
        for column, rounds in columns.items():
            values = [figures[name] for figures in rounds if name in figures]
            medians[column] = statistics.median(values) if values else None
        cells = ["—" if value is None else number(value) for value in medians.values()]
        above, below = (medians.get(column) for column in ratio)
        cells.append(number(above / below) if above and below else "—")
        if targets is not None:
            cells.append(targets.get(name, "—"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def number(value):
    """Formats a number with three digits or as a whole, so that small ratios remain readable."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"
