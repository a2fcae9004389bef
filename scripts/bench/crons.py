"""What cron starts for a night, by each program's own manual: backups, retention, a check. Silent if all is well."""

import collections
import json
import re
import shlex
import subprocess
import time

from tools import Failed, timed

# So many snapshots of each source are kept.
KEPT = 3
SAMPLE = "5%"
# What yester takes to derive a key.
KEY_BYTES = 64 << 20
# Due whenever it is looked at: a night follows the other within seconds.
EVERY_SECOND = "*-*-* *:*:*"
Source = collections.namedtuple("Source", "name paths command", defaults=[(), ()])


class Night:
    """A night of a program. What it needs is written into the folder of its store, which is there."""

    def __init__(self, tool, sources):
        self.tool, self.sources, self.folder = tool, sources, tool.folder
        self.environment = tool.environment

    def prepare(self):
        """Makes the store, and writes what cron starts."""
        raise NotImplementedError

    def command(self):
        """Returns what cron starts."""
        return ["sh", self.folder / "night.sh"]

    def run(self, cold):
        return timed(self.command(), self.environment, cold)

    def write(self, *commands):
        """Writes a script that ends with the first command that fails."""
        lines = ["set -e", *(shlex.join([str(self.tool.binary), *map(str, command)]) for command in commands)]
        (self.folder / "night.sh").write_text("\n".join(lines) + "\n")

    def answer(self, *arguments):
        command = [self.tool.binary, *map(str, arguments)]
        return subprocess.check_output(command, env=self.environment, stderr=subprocess.DEVNULL)

    def snapshots(self):
        """Returns the snapshots of each source, oldest first."""
        raise NotImplementedError

    def read(self, source, snapshot, path):
        """Returns a file as a snapshot has it."""
        raise NotImplementedError

    def must_hold(self, path_of):
        """Looks that of each source as many snapshots are left as are kept, and that the last has what changed."""
        snapshots = self.snapshots()
        for source in self.sources:
            found, path = snapshots[source.name], path_of(source)
            if len(found) != KEPT:
                raise Failed(f"{self.tool.name} has {len(found)} snapshots of {source.name} after the night")
            if self.read(source, found[-1], source.name if source.command else path) != path.read_bytes():
                raise Failed(f"{self.tool.name} gives {path} back otherwise")

    def by_source(self, found, belongs):
        """Sorts snapshots, oldest first, by the source that each belongs to."""
        return {source.name: [name for name, of in found if belongs(source, of)] for source in self.sources}


class ResticNight(Night):
    def prepare(self):
        self.tool.create()
        backups = [["backup", "--quiet", "--stdin-from-command", "--stdin-filename", source.name, "--", *source.command]
                   if source.command else ["backup", "--quiet", *source.paths] for source in self.sources]
        self.write(*backups, ["forget", "--quiet", "--keep-last", KEPT, "--prune"],
                   ["check", "--quiet", f"--read-data-subset={SAMPLE}"])

    def snapshots(self):
        found = json.loads(self.answer("snapshots", "--json"))
        return self.by_source([(snapshot["id"], sorted(snapshot["paths"])) for snapshot in found],
                              lambda source, paths: paths == paths_of(source, f"/{source.name}"))

    def read(self, _source, snapshot, path):
        return self.answer("dump", snapshot, path)


class BorgNight(Night):
    """It has no sample of what is stored: all its segments are read, and their CRCs looked at."""

    def prepare(self):
        self.tool.create()
        create = ["create", "--compression", "zstd,3"]
        backups, prunes = [], []
        for source in self.sources:
            archive = f"::{source.name}-{{now:%Y-%m-%dT%H:%M:%S.%f}}"
            backups.append([*create, "--content-from-command", "--stdin-name", source.name, archive, "--",
                            *source.command] if source.command else [*create, archive, *source.paths])
            # Its manual: one prune for each set of data.
            prunes.append(["prune", "--keep-last", KEPT, "--glob-archives", f"{source.name}-*"])
        self.write(*backups, *prunes, ["compact"], ["check", "--repository-only"])

    def snapshots(self):
        found = [archive["name"] for archive in json.loads(self.answer("list", "--json"))["archives"]]
        return self.by_source([(name, name) for name in found], lambda source, name: name.startswith(f"{source.name}-"))

    def read(self, _source, snapshot, path):
        return self.answer("extract", "--stdout", f"::{snapshot}", str(path).lstrip("/"))


class RusticNight(Night):
    """Its profile names all sources, so that one process backs all of them up."""

    def prepare(self):
        self.tool.create()
        profile = ["[global]", "no-progress = true", 'log-level = "warn"', "", "[forget]", f"keep-last = {KEPT}",
                   "prune = true"]
        for source in self.sources:
            profile += ["", "[[backup.snapshots]]"]
            # Without `force`, what a command prints counts as unchanged, and is not read.
            profile += ['sources = ["-"]', f'stdin-filename = "{source.name}"', "force = true",
                        f'stdin-command = "{shlex.join(source.command)}"'] if source.command else [
                            f"sources = {json.dumps([str(path) for path in source.paths])}"]
        self.profile = self.folder / "night"
        self.profile.with_suffix(".toml").write_text("\n".join(profile) + "\n")
        check = ["check", "--read-data", "--read-data-subset", SAMPLE]
        self.write(*(["-P", self.profile, *command] for command in (["backup"], ["forget"], check)))

    def snapshots(self):
        groups = json.loads(self.answer("snapshots", "--json"))
        found = sorted((snapshot["time"], snapshot["id"], sorted(snapshot["paths"]))
                       for group in groups for snapshot in group["snapshots"])
        return self.by_source([(name, paths) for _, name, paths in found],
                              lambda source, paths: paths == paths_of(source, source.name))

    def read(self, _source, snapshot, path):
        return self.answer("--no-progress", "dump", f"{snapshot}:{path}")


class YesterNight(Night):
    """One configuration, one command. The store opens by a key file, or by a passphrase in a file."""

    def __init__(self, tool, sources, key="key-file", place=None):
        super().__init__(tool, sources)
        self.key, self.place = key, place or {"url": str(self.folder / "store")}
        own = {name: value for name, value in tool.environment.items() if not name.startswith("YESTER_")}
        self.environment = own
        self.config = self.folder / "config.toml"

    def prepare(self):
        (self.folder / "passphrase").write_text("bench\n")
        self.configure(EVERY_SECOND)
        self.answer("--config", self.config, "init")

    def configure(self, schedule):
        """Writes a configuration by which everything is due as often as a schedule says."""
        opened = {"key-file": f'key-file = "{self.folder / "key"}"',
                  "passphrase": f'passphrase = {{ file = "{self.folder / "passphrase"}" }}'}
        text = [f'schedule = "{schedule}"', f"keep = {{ last = {KEPT} }}", opened[self.key], f'gc = "{schedule}"',
                f'verify = {{ sample = "{SAMPLE}", schedule = "{schedule}" }}', "", "[store.local]"]
        text += [f'{name} = "{value}"' for name, value in self.place.items()]
        for source in self.sources:
            text += ["", f"[source.{source.name}]", f"command = {json.dumps(source.command)}" if source.command else
                     f"paths = {json.dumps([str(path) for path in source.paths])}"]
        text += ["", "[metrics]", f'textfile = "{self.folder / "yester.prom"}"']
        self.config.write_text("\n".join(text) + "\n")

    def command(self):
        return [self.tool.binary, "--config", self.config, "run"]

    def run(self, cold):
        # What is due every second is due again.
        time.sleep(1.1)
        return super().run(cold)

    def steps(self):
        """Runs a night; returns its steps, which all went well, and the seconds that it took."""
        time.sleep(1.1)
        began = time.monotonic()
        steps = json.loads(self.answer("--config", self.config, "run", "--json"))["steps"]
        seconds = time.monotonic() - began
        count = len(self.sources)
        expected = ["ingest"] * count + ["forget", "verify", "gc"]
        if [step["operation"] for step in steps] != expected or any(step["outcome"] != "done" for step in steps):
            raise Failed(f"the night did something else: {steps}")
        return steps, seconds

    def snapshots(self):
        found = json.loads(self.answer("--config", self.config, "snapshots", "--json"))
        return self.by_source([(snapshot["id"], snapshot["source"]) for snapshot in found],
                              lambda source, name: name == source.name)

    def read(self, _source, snapshot, path):
        return self.answer("--config", self.config, "cat", snapshot, path)


def paths_of(source, of_command):
    """Returns the paths by which a program knows a source, given how it names what a command prints."""
    return [of_command] if source.command else sorted(map(str, source.paths))


def keys_derived(night):
    """Runs a night, and counts the keys that it derives: each takes 64 MiB at once, and nothing else as much."""
    time.sleep(1.1)
    trace = night.folder / "trace"
    subprocess.run(["strace", "-f", "-qq", "-e", "trace=mmap", "-o", trace, *map(str, night.command())],
                   env=night.environment, check=True)
    lengths = re.findall(r"mmap\(NULL, (\d+), PROT_READ\|PROT_WRITE,", trace.read_text())
    return sum(KEY_BYTES <= int(length) < KEY_BYTES + (1 << 20) for length in lengths)
