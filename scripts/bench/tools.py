"""What the benchmarks measure with: timed commands, empty caches, sizes, and the state of a served mount."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

CHILD = pathlib.Path(__file__).with_name("child.py")
# A step that takes longer is cut off, unless its caller says otherwise.
LIMIT_SECONDS = 3600


class CutOff(Exception):
    """A step took longer than it may."""

    def __init__(self, command, seconds):
        super().__init__(f"{shown(command)} took more than {seconds} s")
        self.seconds = seconds


class Failed(Exception):
    """A step did not do what it should."""


class Step:
    """One timed command: seconds of wall clock and of all cores, and the peak memory of its largest process in MB."""

    def __init__(self, seconds, core_seconds, peak_mb):
        self.seconds = seconds
        self.core_seconds = core_seconds
        self.peak_mb = peak_mb


def drop_page_cache():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def timed(command, environment=os.environ, cold=True, source=os.devnull, limit_seconds=LIMIT_SECONDS, folder=None):
    """Runs a command and measures it with the kernel's own accounting of the finished process.

    A file that it is given as its standard input is read once before, so that only the program is measured.
    """
    if cold:
        drop_page_cache()
    read_once(source)
    report, sent = os.pipe()
    with open(source, "rb") as standard_input, open(report, "rb") as report, errors_file() as errors:
        # Of its standard library the small process loads what it names, and no site packages.
        child = subprocess.Popen([sys.executable, "-I", "-S", CHILD, str(sent), *map(str, command)], env=environment,
                                 stdin=standard_input, stdout=subprocess.DEVNULL, stderr=errors, cwd=folder,
                                 pass_fds=[sent], start_new_session=True)
        os.close(sent)
        with ended_after(limit_seconds, child.pid) as timer:
            try:
                child.wait()
            except BaseException:
                end_group(child.pid)
                raise
        answer = report.read()
        if timer.fired.is_set():
            raise CutOff(command, limit_seconds)
        found = json.loads(answer) if answer else {"code": child.returncode}
        if found["code"] != 0:
            errors.seek(0)
            said = errors.read()[-2000:].decode(errors="replace")
            raise Failed(f"{shown(command)} ended with {found['code']}:\n{said}")
    return Step(found["seconds"], found["core_seconds"], found["peak_mb"])


def errors_file():
    """Returns a file for what a program says: a pipe that nobody reads would stop it."""
    return open(os.memfd_create("errors"), "w+b")


def shown(command):
    return " ".join(map(str, command))


@contextlib.contextmanager
def ended_after(seconds, group):
    """Ends a group of processes unless the block ends sooner; `fired` of what it gives tells whether it did."""
    fired = threading.Event()

    def end():
        fired.set()
        end_group(group)

    timer = threading.Timer(seconds, end)
    timer.fired = fired
    timer.start()
    try:
        yield timer
    finally:
        timer.cancel()


def end_group(leader):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def read_once(path):
    """Reads a file, so that the page cache holds it."""
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def stored_mb(folder):
    """Returns the sum of the sizes of all files below a folder."""
    total = 0
    for path, _, files in os.walk(folder):
        total += sum(os.lstat(os.path.join(path, name)).st_size for name in files)
    return total / 10**6


def must_be_equal(left, right):
    found = subprocess.run(["diff", "-r", "--no-dereference", left, right], capture_output=True, text=True)
    if found.returncode != 0:
        raise Failed(f"{left} and {right} differ:\n{(found.stdout + found.stderr)[:2000]}")


class Mount:
    """A mount that a process of ours serves; `seconds` tells how long it took until a path in it was there.

    `root` is where a snapshot begins in it, and `path` one that was backed up.
    """

    def __init__(self, command, environment, point, root, path, limit_seconds=LIMIT_SECONDS):
        self.command, self.environment = [str(word) for word in command], environment
        self.point, self.limit_seconds = pathlib.Path(point), limit_seconds
        self.root, self.path = self.point / root, path

    def __enter__(self):
        release(self.point)  # A run that was killed left it.
        self.point.mkdir(parents=True, exist_ok=True)
        drop_page_cache()
        self.errors = errors_file()
        started = time.monotonic()
        self.server = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=self.errors, start_new_session=True)
        try:
            with ended_after(self.limit_seconds, self.server.pid) as timer:
                while not self.is_there():
                    if timer.fired.is_set():
                        raise CutOff(self.command, self.limit_seconds)
                    if self.server.poll() is not None:
                        self.errors.seek(0)
                        said = self.errors.read()[-2000:].decode(errors="replace")
                        raise Failed(f"{shown(self.command)} ended with {self.server.returncode}:\n{said}")
                    time.sleep(0.001)
            self.seconds = time.monotonic() - started
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if os.path.ismount(self.point):
            subprocess.run(["umount", self.point], stderr=subprocess.DEVNULL)
        try:
            self.server.wait(30)
        except subprocess.TimeoutExpired:
            end_group(self.server.pid)
            self.server.wait()
        release(self.point)
        self.errors.close()

    def at(self, path):
        """Returns where the mount shows what was backed up as `path`."""
        return self.root / str(path).lstrip("/")

    def is_there(self):
        try:
            os.stat(self.at(self.path))
            return os.path.ismount(self.point)
        except OSError:
            return False

    def peak_mb(self):
        """Returns the peak memory of the process that serves the mount; none if it has ended."""
        lines = pathlib.Path(f"/proc/{self.server.pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 / 10**6 for line in lines if line.startswith("VmHWM:")), None)


def release(point):
    """Takes away a mount that nothing serves any more."""
    # A dead server's mount cannot be looked at, so that is no test.
    mounts = {line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()}
    if str(point) in mounts:
        subprocess.run(["umount", "-l", point], check=True)
