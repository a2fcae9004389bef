"""What the benchmarks measure with: timed commands, restic and yester behind one set of methods, and the table."""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import inputs

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


class Step:
    """One timed command: seconds of wall clock, and the peak memory of its largest process in MiB."""

    def __init__(self, seconds, peak_mib):
        self.seconds = seconds
        self.peak_mib = peak_mib


def drop_page_cache():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def timed(command, environment, cold):
    """Runs a command and measures it with the kernel's own accounting of the finished process."""
    if cold:
        drop_page_cache()
    started = time.monotonic()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - started
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {code}:\n{errors.decode(errors='replace')}")
    return Step(seconds, usage.ru_maxrss / 1024)


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

    def run(self, *arguments, cold=True):
        return timed([self.binary, "--quiet", *arguments], self.environment, cold)

    def version(self):
        return subprocess.check_output([self.binary, "version"], text=True).split(" compiled")[0]

    def create(self):
        self.run("init")

    def ingest(self, tree):
        return self.run("backup", str(tree))

    def restore(self, target):
        return self.run("restore", "latest", *self.restore_options, "--target", str(target))

    def verify(self):
        return self.run("check", "--read-data")


class Yester:
    name = "yester"

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.environment = os.environ | {
            "YESTER_STORE": str(folder / "store"),
            "YESTER_PASSPHRASE": "bench",
            "CACHE_DIRECTORY": str(folder / "cache"),
            "STATE_DIRECTORY": str(folder / "state"),
        }

    def run(self, *arguments, cold=True):
        return timed([self.binary, *arguments], self.environment, cold)

    def version(self):
        return subprocess.check_output([self.binary, "--version"], text=True).strip()

    def create(self):
        self.run("init")

    def ingest(self, tree):
        return self.run("ingest", "--source", "tree", str(tree))

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
    """Formats medians as a Markdown table with the ratio of yester to restic."""
    names = list(dict.fromkeys(name for rounds in columns.values() for figures in rounds for name in figures))
    print("| | " + " | ".join(columns) + " | yester / restic |")
    print("|---" * (len(columns) + 2) + "|")
    for name in names:
        medians = {}
        for column, rounds in columns.items():
            values = [figures[name] for figures in rounds if name in figures]
            medians[column] = statistics.median(values) if values else None
        cells = ["—" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in medians.values()]
        both = medians.get("yester") and medians.get("restic")
        ratio = f"{medians['yester'] / medians['restic']:.2f}" if both else "—"
        print(f"| {name} | " + " | ".join(cells) + f" | {ratio} |")
