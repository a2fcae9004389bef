"""What `yester run` and `yester status` take by themselves: step by step, by how a store is opened, after a year."""

import contextlib
import sqlite3
import statistics

from bench import Result, Taker, in_turn, note
from crons import EVERY_SECOND, KEPT, YesterNight, keys_derived
from peers import Yester
from runs import Sources, prepared
from s3 import BUCKET, Server, build_server
from tools import timed

KEY_FILE, PASSPHRASE, DISTANT = "key file", "passphrase", "S3, key file"
TREES = 8
NIGHTS_OF_A_YEAR, DAY_MS = 365, 24 * 3600 * 1000
OF_A_NIGHT = "a night, nothing changed, warm"
STEPS = {"ingest": "a backup", "forget": "retention", "verify": "verification", "gc": "garbage"}


def measure_run_costs(bench):
    build_server()
    columns = [KEY_FILE, PASSPHRASE, DISTANT]
    with bench.scratch() as scratch, contextlib.ExitStack() as stack:
        sources = Sources(scratch, TREES)
        server = stack.enter_context(Server(scratch / "s3-server"))
        nights = {column: stack.enter_context(prepared(night_of(bench, column, sources.all, server)))
                  for column in columns}
        records = records_of_a_night(sources.all) * NIGHTS_OF_A_YEAR
        about = (f"{len(sources.all)} sources as above, {TREES} trees and a command. *All else* is what the steps of a "
                 f"night leave of its time. Keys are counted by `strace`, in a night of its own, as the pieces of 64 "
                 f"MiB that deriving takes; requests by the server of the tests, on loopback. The year in the journal "
                 f"is the {records:,} records of {NIGHTS_OF_A_YEAR} nights like the last one, each a day apart.")
        result = Result(bench, "run-costs", about, columns)
        takers = {column: Taker(bench, result, column) for column in columns}
        for number in range(KEPT):
            note(f"run costs, night {number + 1} before")
            sources.change()
            for night in nights.values():
                night.run(cold=False)
        for number in range(bench.runs):
            for column in in_turn(columns, number):
                note(f"run costs, round {number + 1} of {bench.runs}: {column}")
                with takers[column].round():
                    take_idle(takers[column], nights[column])
                    take_night(takers[column], nights[column], server if column == DISTANT else None)
                    if number == 0:
                        takers[column].figures["keys derived in it"] = keys_derived(nights[column])
        for night in nights.values():
            night.must_hold(sources.path_of)
        add_a_year(nights[KEY_FILE])
        for number in range(bench.runs):
            note(f"run costs, round {number + 1} of {bench.runs}: status")
            with takers[KEY_FILE].round(number=number):
                take_status(takers[KEY_FILE], nights[KEY_FILE])
    result.finish()


def night_of(bench, column, sources, server):
    tool = Yester(bench.yester.binary, bench.folder / f"yester-{column.replace(', ', '-').replace(' ', '-')}-run")
    if column != DISTANT:
        return YesterNight(tool, sources, column.replace(" ", "-"))
    place = {"url": f"s3://{BUCKET}/store", "endpoint": server.url, "region": "us-east-1"}
    night = YesterNight(tool, sources, place=place)
    night.environment |= server.environment()
    return night


def take_idle(taker, night):
    night.configure("yearly")
    taker.take("nothing due, cold", lambda: night.run(cold=True), peak=True)
    taker.take("nothing due, warm", lambda: night.run(cold=False))
    night.configure(EVERY_SECOND)


def take_night(taker, night, server):
    if server:
        server.reset()
    taker.take(OF_A_NIGHT, lambda: night.run(cold=False), peak=True, cores=True)
    requests = server.requests() if server else None
    steps, seconds = night.steps()
    for operation, name in STEPS.items():
        took = [step["elapsed_seconds"] for step in steps if step["operation"] == operation]
        taker.figures[f"of it {name}, s"] = statistics.median(took)
    taker.figures["of it all else, s"] = seconds - sum(step["elapsed_seconds"] for step in steps)
    if server:
        taker.figures["requests in it"] = requests


def take_status(taker, night):
    for name, options in (("status", []), ("status --json", ["--json"]), ("status --alert, with metrics", ["--alert"])):
        command = [night.tool.binary, "--config", night.config, "status", *options]
        taker.take(f"{name}, after a year, warm", lambda: timed(command, night.environment, cold=False))


def add_a_year(night):
    """Repeats what the journal has of the last night, a day earlier each time."""
    night.configure("daily")
    with contextlib.closing(sqlite3.connect(night.folder / "state/journal.sqlite")) as journal, journal:
        found = journal.execute("SELECT * FROM runs ORDER BY id DESC LIMIT ?", (records_of_a_night(night.sources),))
        names = [column[0] for column in found.description][1:]
        last = [dict(zip(names, row[1:])) for row in reversed(found.fetchall())]
        # They are read in the order of their numbers: the oldest comes first.
        journal.execute("DELETE FROM runs")
        for days in reversed(range(NIGHTS_OF_A_YEAR)):
            earlier = [row | {time: row[time] - days * DAY_MS for time in ("started", "finished")} for row in last]
            values = ", ".join(f":{name}" for name in names)
            journal.executemany(f"INSERT INTO runs ({', '.join(names)}) VALUES ({values})", earlier)


def records_of_a_night(sources):
    """Returns how many steps a night has: a backup of each source, retention, verification, garbage."""
    return len(sources) + 3
