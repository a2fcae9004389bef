"""Yester and the programs that it is compared with, behind one set of methods; each with a folder of its own."""

import contextlib
import copy
import json
import os
import shlex
import shutil
import subprocess

from tools import LIMIT_SECONDS, Mount, release, stored_mb, timed


# What a user has set for a program must not change what is measured.
OWN_VARIABLES = ("BORG_", "RESTIC_", "RUSTIC_", "YESTER_")


class Tool:
    """A backup program. It is told where its store is by its environment, and by what passphrase it opens."""

    # Whether it is this program, and not a peer.
    is_subject = False

    def __init__(self, binary, folder, name=None):
        self.binary, self.folder = binary, folder
        self.name = name or self.name
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
        self.environment = inherited | {name: str(value) for name, value in self.variables().items()}

    def run(self, *arguments, cold=True, source=os.devnull, folder=None):
        return timed([self.binary, *self.quiet, *arguments], self.environment, cold, source, folder=folder)

    def without_passphrase(self):
        """Returns the same tool, opening its store without deriving a key from a passphrase; none if it cannot."""

    def stored_mb(self):
        return stored_mb(self.folder / "store")

    def answer(self, *arguments):
        return subprocess.check_output([self.binary, *arguments], env=self.environment, text=True).strip()

    def keep_last(self):
        """Returns the commands that forget all snapshots but the last one, and give back what they took."""
        raise NotImplementedError

    def store(self, name, source):
        """Stores a file under a name, in such a way that a mount shows what is in it."""
        self.ingest_stream(name, source)

    def restored(self, target, path):
        """Returns where `restore` puts a path."""
        return f"{target}{path}"

    @contextlib.contextmanager
    def fresh_store(self):
        """Makes an empty store, and takes it away again."""
        self.remove_store()
        self.folder.mkdir(parents=True)
        try:
            self.create()
            yield
        finally:
            self.remove_store()

    def remove_store(self):
        release(self.folder / "mnt")
        shutil.rmtree(self.folder, ignore_errors=True)

    def mounted(self, path, name="tree", limit_seconds=LIMIT_SECONDS):
        """Mounts the store; ready when a path of the latest snapshot of `name` is there. Nothing is cached then."""
        command = [self.binary, *self.quiet, *self.mounting(self.folder / "mnt")]
        return Mount(command, self.environment, self.folder / "mnt", self.root(name), path, limit_seconds)


class Restic(Tool):
    name, quiet = "restic", ["--quiet"]

    def variables(self):
        return {"RESTIC_REPOSITORY": self.folder / "store", "RESTIC_PASSWORD": "bench",
                "RESTIC_CACHE_DIR": self.folder / "cache"}

    def version(self):
        return self.answer("version").split(" compiled")[0]

    def create(self):
        self.run("init")

    def ingest(self, *paths, cold=True):
        return self.run("backup", *paths, cold=cold)

    def ingest_stream(self, name, source):
        return self.run("backup", "--stdin", "--stdin-filename", name, source=source)

    def ingest_command(self, name, command):
        return self.run("backup", "--stdin-from-command", "--stdin-filename", name, "--", *command)

    def reading(self, name):
        """Returns the command that prints a file of the latest snapshot."""
        return [self.binary, "--quiet", "dump", "latest", name]

    def snapshots(self):
        return self.run("snapshots")

    def restore(self, target):
        return self.run("restore", "latest", "--target", target)

    def verify(self):
        return self.run("check", "--read-data")

    def keep_last(self):
        return [lambda: self.run("forget", "--keep-last", "1", "--group-by", "host", "--prune")]

    def mounting(self, point):
        return ["mount", point]

    def root(self, _name):
        return "snapshots/latest"


class Borg(Tool):
    """borg has no name for the latest archive, and compresses little unless told: it gets what the others use."""

    name, quiet = "borg", []

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.count = 0

    def variables(self):
        return {"BORG_REPO": self.folder / "store", "BORG_PASSPHRASE": "bench", "BORG_BASE_DIR": self.folder / "base"}

    def version(self):
        return self.answer("--version")

    def create(self):
        self.count = 0
        self.run("init", "--encryption", "repokey")

    def ingest(self, *paths, cold=True):
        return self.write(*paths, cold=cold)

    def ingest_stream(self, name, source):
        return self.write("-", options=["--stdin-name", name], source=source)

    def ingest_command(self, name, command):
        return self.write("--", *command, options=["--content-from-command", "--stdin-name", name])

    def write(self, *paths, options=(), **how):
        self.count += 1
        return self.run("create", "--compression", "zstd,3", *options, f"::{self.count:06}", *paths, **how)

    def reading(self, name):
        return [self.binary, "extract", "--stdout", f"::{self.count:06}", name]

    def snapshots(self):
        return self.run("list")

    def restore(self, target):
        target.mkdir(parents=True)
        return self.run("extract", f"::{self.count:06}", folder=target)

    def verify(self):
        return self.run("check", "--verify-data")

    def keep_last(self):
        return [lambda: self.run("prune", "--keep-last", "1"), lambda: self.run("compact")]

    def mounting(self, point):
        return ["mount", "--foreground", self.folder / "store", point]

    def root(self, _name):
        return f"{self.count:06}"


class Rustic(Tool):
    name, quiet = "rustic", ["--no-progress", "--log-level", "warn"]
    # Otherwise a stream counts as unchanged since the last one of its name, and is not read.
    anew = ["--force"]

    def variables(self):
        # Without a home it finds no configuration.
        return {"RUSTIC_REPOSITORY": self.folder / "store", "RUSTIC_PASSWORD": "bench",
                "RUSTIC_CACHE_DIR": self.folder / "cache", "HOME": self.folder}

    def version(self):
        return self.answer("--version")

    def create(self):
        self.run("init")

    def ingest(self, *paths, cold=True):
        return self.run("backup", *paths, cold=cold)

    def ingest_stream(self, name, source):
        return self.run("backup", *self.anew, "--stdin-filename", name, "-", source=source)

    def store(self, name, source):
        # What it takes from a stream its mount shows as an empty file.
        link = self.folder / "links" / name
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.hardlink_to(source)
        self.run("backup", "--as-path", name, link)

    def ingest_command(self, name, command):
        # Its own `--stdin-command` took 150 s where the same bytes as standard input take 5.
        backup = [str(self.binary), *self.quiet, "backup", *self.anew, "--stdin-filename", name, "-"]
        pipe = f"{shlex.join(map(str, command))} | {shlex.join(backup)}"
        return timed(["bash", "-o", "pipefail", "-c", pipe], self.environment)

    def reading(self, name):
        return [self.binary, *self.quiet, "dump", f"latest:{name}"]

    def snapshots(self):
        return self.run("snapshots")

    def restore(self, target):
        return self.run("restore", "latest", target)

    def verify(self):
        return self.run("check", "--read-data")

    def keep_last(self):
        options = ["--keep-last", "1", "--group-by", "host", "--prune", "--instant-delete"]
        return [lambda: self.run("forget", *options)]

    def mounting(self, point):
        # By their times, two snapshots of one second would be one.
        return ["mount", "--path-template", "all/{id}", point]

    def root(self, _name):
        return "all/latest"


class Yester(Tool):
    name, quiet, is_subject = "yester", [], True

    def __init__(self, binary, folder, name=None, ingest_options=(), init_options=()):
        super().__init__(binary, folder, name)
        self.ingest_options, self.init_options = ingest_options, init_options

    def variables(self):
        return {"YESTER_STORE": self.folder / "store", "YESTER_PASSPHRASE": "bench",
                "CACHE_DIRECTORY": self.folder / "cache", "STATE_DIRECTORY": self.folder / "state"}

    def version(self):
        return self.answer("--version")

    def create(self):
        """Makes a store that opens by the passphrase, which costs a derived key, and by a key file, which does not."""
        self.run("init", *self.init_options, "--key-file", self.key_file())

    def key_file(self):
        return self.folder / "key"

    def without_passphrase(self):
        opened = copy.copy(self)
        opened.environment = self.environment | {"YESTER_KEY_FILE": str(self.key_file())}
        del opened.environment["YESTER_PASSPHRASE"]
        return opened

    def ingest(self, *paths, cold=True):
        return self.run("ingest", *self.ingest_options, "--source", "tree", *paths, cold=cold)

    def ingest_stream(self, name, source):
        return self.run("ingest", *self.ingest_options, "--as", name, source=source)

    def ingest_command(self, name, command):
        return self.run("ingest", *self.ingest_options, "--as", name, "--", *command)

    def reading(self, name):
        return [self.binary, "cat", f"latest:{name}", name]

    def snapshots(self):
        return self.run("snapshots")

    def first_of(self, name):
        """Returns where the mount shows the oldest snapshot of a source."""
        snapshots = json.loads(self.answer("snapshots", "--json", "--source", name))
        time = snapshots[0]["time"].split(".")[0].replace(":", "-")
        return f"snapshots/{time}Z-{snapshots[0]['id'][:8]}"

    def restore(self, target):
        return self.run("restore", "latest:tree", "--to", target)

    def verify(self):
        return self.run("verify")

    def keep_last(self):
        return [lambda: self.run("forget", "--keep-last", "1"), self.collect]

    def collect(self):
        return self.run("gc", "--grace", "0")

    def mounting(self, point):
        return ["mount", "--foreground", point]

    def root(self, name):
        return f"sources/{name}/latest"


@contextlib.contextmanager
def fresh_stores(*tools):
    """Gives each tool an empty store, and takes them away again."""
    with contextlib.ExitStack() as stores:
        for tool in tools:
            stores.enter_context(tool.fresh_store())
        yield
