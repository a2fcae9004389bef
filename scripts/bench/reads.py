"""How a dump and a database file are read on the mount: cat, random blocks, page faults, queries, pg_restore."""

import contextlib
import subprocess

import night_inputs
from bench import Result, Taker, in_turn, is_due, left_out_on_failure, mounted, note, part
from night_inputs import DUMP
from peers import Yester, fresh_stores
from probes import MAPPED, RANDOM, ROWS
from readings import cat_twice, probe
from servers import Postgres
from tools import Failed, timed

DATABASE = "events.db"
FIRST_NIGHT = "yester, first night"
# Without its offsets a dump takes millions of calls, each of which strace stops.
SCAN_SECONDS = 300


def measure_reads(bench):
    """Reads the last of five nights, which this program stores as differences, and its first one, stored whole."""
    dumps, (before, after) = bench.dumps(), night_inputs.sqlite_files(bench.nights, bench.sizes["nights"])
    about = (f"The last of five nights of `pg_dump -Fc -Z0`, {dumps.piped[-1].stat().st_size / 10**6:,.0f} MB, and a "
             f"SQLite file of {after.stat().st_size / 10**6:,.0f} MB, the store cold and mounted anew for each group "
             f"of reads. *{FIRST_NIGHT}* is the dump that the others are stored as differences to.")
    result = Result(bench, "reads", about, [tool.name for tool in bench.tools] + [FIRST_NIGHT, "native"])
    takers, tools = {name: Taker(bench, result, name) for name in result.data["columns"]}, list(bench.tools)
    with fresh_stores(*tools):
        fill(tools, DUMP, dumps.piped, result)
        for number in range(bench.runs):
            for name in in_turn(due(takers, tools, number), number):
                note(f"reads, round {number + 1} of {bench.runs}: {name}, the dump")
                tool = bench.yester if name == FIRST_NIGHT else bench.tool(name)
                with takers[name].round():
                    read_dump(takers[name], tool, dumps.piped[-1])
    with fresh_stores(*tools):
        fill(tools, DATABASE, (before, after), result)
        for number in range(bench.runs):
            for name in in_turn([name for name in due(takers, tools, number) if name != FIRST_NIGHT], number):
                note(f"reads, round {number + 1} of {bench.runs}: {name}, the database file")
                with takers[name].round(number=number):
                    read_database(takers[name], bench.tool(name), after)
    result.finish()


def fill(tools, name, paths, result):
    """Stores files one after the other under a name, with all tools."""
    for tool in list(tools):
        note(f"{result.data['workload']}: filling the store of {tool.name}")
        with left_out_on_failure(tools, tool, result):
            for path in paths:
                tool.store(name, path)


def due(takers, tools, number):
    """Returns the columns that are measured in a round: of the peers only those that are still there."""
    there = [tool.name for tool in tools]
    return [name for name, taker in takers.items()
            if is_due(name, number) and (name in there or taker.must_succeed)]


def read_dump(taker, tool, local):
    for reading in (cat_twice, lambda taker, path: probe(taker, RANDOM, path),
                    lambda taker, path: probe(taker, MAPPED, path)):
        if tool is None:
            reading(taker, local)
            continue
        with part(), mounted(taker, tool, DUMP, DUMP) as mount:
            root = mount.point / tool.first_of(DUMP) if taker.column == FIRST_NIGHT else mount.root
            reading(taker, root / DUMP)


def read_database(taker, tool, local):
    if tool is None:
        return probe(taker, ROWS, local)
    with part(), mounted(taker, tool, DATABASE, DATABASE) as mount:
        probe(taker, ROWS, mount.at(DATABASE))


def measure_restore(bench):
    """Restores the last night from every mount and from pg_dump's own file; counts the calls of some."""
    dumps = bench.dumps()
    verbatim = Yester(bench.yester.binary, bench.folder / "verbatim-run", "yester, --verbatim", ["--verbatim"])
    tools = [*bench.tools, verbatim]
    about = ("The last of the five dumps, the store cold and freshly mounted; the local file is of the same night, "
             "written by `pg_dump -f`, cold as well. Each time into a new database, with fsync off; what was restored "
             "is compared by a checksum of all rows. `strace -f -c -e trace=lseek` counts in a run of its own. "
             "*--verbatim* is the dump as it came through the pipe.")
    # What is to be seen is little beside the noise.
    rounds = bench.runs + 4
    result = Result(bench, "restore", about, ["local file", *(tool.name for tool in tools)], rounds)
    takers = {name: Taker(bench, result, name) for name in result.data["columns"]}
    checksums = set()
    with fresh_stores(*tools), Postgres(dumps.cluster) as server:
        result.data["server"] = server.version()
        fill([bench.yester], DUMP, dumps.piped[:-1], result)
        fill(tools, DUMP, dumps.piped[-1:], result)
        for number in range(rounds):
            for tool in in_turn([None, *(tool for tool in tools if is_due(tool.name, number))], number):
                taker = takers[tool.name if tool else "local file"]
                note(f"restore, round {number + 1} of {rounds}: {taker.column}")
                with taker.round(), dump_in(tool, dumps, taker) as path, fresh_database(server) as command:
                    taker.take("pg_restore -j2, cold", lambda: timed([*command, path], limit_seconds=limit(bench)))
                    checksums.add(server.query("new", night_inputs.CHECKSUM))
        for tool in (None, bench.yester, verbatim):
            taker = takers[tool.name if tool else "local file"]
            note(f"restore, lseek calls: {taker.column}")
            with dump_in(tool, dumps) as path, fresh_database(server) as command:
                calls, ended = lseek_calls([*command, path], bench.folder / "strace")
            with taker.round(number=0):
                taker.figures["lseek calls"] = calls
            if not ended:
                result.note(f"The count of {taker.column} was stopped after {SCAN_SECONDS} s.")
    if len(checksums) != 1:
        raise Failed(f"the restored tables differ: {checksums}")
    result.finish()


def limit(bench):
    # A restore writes and indexes millions of rows before the mount comes into it.
    return 3 * bench.limit_seconds


@contextlib.contextmanager
def dump_in(tool, dumps, taker=None):
    """Gives the path under which a tool shows its dump; without one, that of the local file."""
    if tool is None:
        yield dumps.written
        return
    with mounted(taker, tool, DUMP, DUMP) if taker else tool.mounted(DUMP, DUMP) as mount:
        yield mount.at(DUMP)


@contextlib.contextmanager
def fresh_database(server):
    """Makes an empty database and gives the command that restores into it, but for the path."""
    server.query("postgres", "DROP DATABASE IF EXISTS new WITH (FORCE)")
    server.run("createdb", "-T", "template0", "new")
    server.query("new", "CHECKPOINT")
    try:
        yield server.client("pg_restore", "-j2", "-d", "new")
    finally:
        server.query("postgres", "DROP DATABASE IF EXISTS new WITH (FORCE)")


def lseek_calls(command, report):
    """Counts the lseek calls of a command and all its processes; tells whether it came to its end."""
    # The signal goes to all of them but strace, which blocks it, and which ends when they have.
    tracing = ["timeout", "--kill-after=60", str(SCAN_SECONDS),
               "strace", "-f", "-c", "-e", "trace=lseek", "-o", report, *command]
    traced = subprocess.run(tracing, timeout=SCAN_SECONDS + 120, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if traced.returncode not in (0, 124):
        raise Failed(f"strace ended with {traced.returncode}:\n{traced.stderr.decode(errors='replace')}")
    rows = [line.split() for line in report.read_text().splitlines()]
    report.unlink()
    calls = next((int(words[3]) for words in rows if words and words[-1] == "lseek"), None)
    if calls is None:
        raise Failed("strace counted no lseek calls")
    return calls, traced.returncode == 0
