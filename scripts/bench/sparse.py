"""A file that is nearly all holes: it should cost what its islands cost, and come back with all of its holes."""

import hashlib
import os
import shutil

import inputs
from bench import Result, Taker, in_turn, mounted, note
from tools import Failed, timed

# What a copy of a sparse file may take more than the original, for the tables of its extents.
SLACK_BYTES = 1 << 20


def measure_sparse(bench):
    """Measures this program alone: peers read all the holes of it, or do not bring them back."""
    folder = inputs.sparse_file(bench.folder, bench.sizes["sparse_bytes"])
    length, found = islands(folder / inputs.SPARSE_FILE)
    data = sum(end - start for start, end, _ in found)
    about = (f"A file of {length / 10**9:,.0f} GB that is all holes but for {len(found)} islands of "
             f"{data / 10**6:,.0f} MB in all.")
    tool = bench.yester
    result = Result(bench, "sparse", about, [tool.name, "native"])
    takers = {name: Taker(bench, result, name) for name in (tool.name, "native")}
    for number in range(bench.runs):
        for name in in_turn(takers, number):
            note(f"sparse, round {number + 1} of {bench.runs}: {name}")
            with takers[name].round():
                if name == "native":
                    copy_islands(takers[name], folder, folder, bench)
                else:
                    with tool.fresh_store():
                        whole_job(takers[name], tool, folder, bench)
    result.finish()


def whole_job(taker, tool, folder, bench):
    taker.take("first ingest, cold", lambda: tool.ingest(folder), peak=True)
    taker.figures["store, MB"] = tool.stored_mb()
    taker.take("unchanged ingest, cold", lambda: tool.ingest(folder), peak=True)
    taker.take("restore, cold", lambda: tool.restore(tool.folder / "restored"), peak=True)
    must_have_same_islands(folder, tool.restored(tool.folder / "restored", folder))
    shutil.rmtree(tool.folder / "restored")
    taker.take("verify all data, cold", tool.verify, peak=True)
    with mounted(taker, tool, folder) as mount:
        copy_islands(taker, folder, mount.at(folder), bench)
        must_have_same_islands(folder, mount.at(folder))


def copy_islands(taker, folder, source, bench):
    """Copies the sparse file from where it is shown; the copy must be as sparse as the file."""
    with bench.scratch() as copy:
        command = ["cp", "--sparse=always", f"{source}/{inputs.SPARSE_FILE}", copy / inputs.SPARSE_FILE]
        taker.take("cp --sparse=always, cold", lambda: timed(command))
        must_have_same_islands(folder, copy)


def islands(path):
    """Returns where a file has data, with a checksum of each island; reads no holes."""
    found = []
    with open(path, "rb", buffering=0) as file:
        length, end = os.fstat(file.fileno()).st_size, 0
        while end < length:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            digest, at = hashlib.blake2b(), start
            while at < end:
                block = os.pread(file.fileno(), min(1 << 20, end - at), at)
                digest.update(block)
                at += len(block)
            found.append((start, end, digest.hexdigest()))
    return length, found


def must_have_same_islands(left, right):
    """Compares the one file of both folders by its islands, and sees that the copy is as sparse."""
    left, right = (f"{folder}/{inputs.SPARSE_FILE}" for folder in (left, right))
    if islands(left) != islands(right):
        raise Failed(f"{right} differs from {left}")
    if os.stat(right).st_blocks * 512 > os.stat(left).st_blocks * 512 + SLACK_BYTES:
        raise Failed(f"{right} takes more space than {left}")
