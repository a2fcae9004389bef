"""Reads of single files that no command does: random blocks, page faults, queries. Each in a process of its own.

A read that hangs can be cut off there, and a page that cannot be read ends only that process. Usage, for
`probed` alone: probes.py KIND PATH SEED; prints figures by name as JSON.
"""

import json
import mmap
import os
import pathlib
import random
import sqlite3
import statistics
import subprocess
import sys
import time

READS = 2_000
FAULTS = 500
QUERIES = 200
BLOCK_BYTES = 4096
# The kinds, by the names that their figures have.
RANDOM, MAPPED, ROWS = "random 4 KiB reads", "page faults of a mapped file", "SQLite, rows by number"


def probed(kind, path, seed, limit_seconds):
    """Reads a file in one of the ways below, with all caches empty; returns figures by name."""
    from tools import CutOff, Failed, drop_page_cache

    command = [sys.executable, __file__, kind, str(path), str(seed)]
    drop_page_cache()
    try:
        answer = subprocess.run(command, stdout=subprocess.PIPE, timeout=limit_seconds)
    except subprocess.TimeoutExpired as timeout:
        raise CutOff(command, limit_seconds) from timeout
    if answer.returncode != 0:
        raise Failed(f"reading {path} ended with {answer.returncode}")
    return json.loads(answer.stdout)


def random_reads(path, choose):
    """Reads blocks at random places, one after the other."""
    descriptor = os.open(path, os.O_RDONLY)
    blocks = os.fstat(descriptor).st_size // BLOCK_BYTES

    def read(block):
        if len(os.pread(descriptor, BLOCK_BYTES, block * BLOCK_BYTES)) != BLOCK_BYTES:
            sys.exit(f"{path} ends within block {block}")

    return latencies(RANDOM, [taken(read, block) for block in places(choose, blocks, READS)])


def page_faults(path, choose):
    """Touches pages of a mapped file at random places."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        pages = len(mapped) // BLOCK_BYTES
        times = [taken(lambda page: mapped[page * BLOCK_BYTES], page) for page in places(choose, pages, FAULTS)]
    return latencies(MAPPED, times)


def queries(path, choose):
    """Asks a SQLite database file for single rows, then for something that reads all of it."""
    database = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    last = database.execute("SELECT max(id) FROM events").fetchone()[0]

    def row(number):
        if database.execute("SELECT text FROM events WHERE id = ?", (number,)).fetchone() is None:
            sys.exit(f"{path} lacks row {number}")

    times = [taken(row, number) for number in places(choose, last, QUERIES)]
    whole = taken(lambda _: database.execute("SELECT count(*), sum(length(text)) FROM events").fetchone(), None)
    return latencies(ROWS, times) | {"SQLite, a query over all rows, then, s": whole / 1000}


def places(choose, count, wanted):
    return choose.sample(range(count), min(wanted, count))


def taken(action, argument):
    """Returns the milliseconds that an action takes."""
    started = time.perf_counter()
    action(argument)
    return (time.perf_counter() - started) * 1000


def latencies(name, times):
    times = sorted(times)
    return {f"{name}, cold, mean, ms": statistics.fmean(times),
            f"{name}, cold, 99 of 100 within, ms": times[len(times) * 99 // 100]}


KINDS = {RANDOM: random_reads, MAPPED: page_faults, ROWS: queries}


def main():
    kind, path, seed = sys.argv[1:]
    json.dump(KINDS[kind](pathlib.Path(path), random.Random(int(seed))), sys.stdout)


if __name__ == "__main__":
    main()
