"""Stores in S3 on this machine's loopback, beside stores in a directory: how fast they are, and how many requests they take.

The server is that of the tests, on the same disk. Its counts are what a provider charges for. With a delay it stands for
a server that is far away.
"""

import json
import pathlib
import shutil
import subprocess
import urllib.request

import inputs
from bench import Result, Taker, in_turn, note
from needs import REPOSITORY, target_folder
from peers import Restic, Yester
from readings import piped
from tools import ended_after, end_group, timed

BUCKET = "bench"
# What the server is told to wait before each reply, for the time to the first byte.
LATENCY_MS = 30
READY = "first byte of a mount, nothing cached"
FAR = f"{READY}, {LATENCY_MS} ms a request"
LOCAL, DISTANT, PEER = "yester, directory", "yester", "restic"


class Server:
    """The S3 server of the tests, with its objects in a folder; ended with its block."""

    def __init__(self, folder, latency_ms=0):
        self.folder, self.latency_ms = pathlib.Path(folder), latency_ms

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [target_folder() / "release/s3-server", "--folder", self.folder, "--bucket", BUCKET,
                   "--latency", str(self.latency_ms)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        with ended_after(30, self.process.pid):
            self.url = self.process.stdout.readline().removeprefix("ready ").strip()
        return self

    def __exit__(self, *_):
        end_group(self.process.pid)
        self.process.wait()

    def environment(self):
        keys = subprocess.check_output([target_folder() / "release/s3-server", "--help"], text=True)
        lines = [line.split("=", 1) for line in keys.splitlines() if line.startswith("AWS_")]
        return {name: value.strip("'") for name, value in lines} | {
            "AWS_ENDPOINT_URL": self.url, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}

    def reset(self):
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/_counts", method="DELETE")).close()

    def requests(self):
        """Returns how many requests there were since the counts were reset."""
        with urllib.request.urlopen(f"{self.url}/_counts") as reply:
            return json.load(reply)["requests"]


def at(server, tool):
    """Returns a tool whose store is in the bucket."""
    kind = Yester if tool.is_subject else Restic
    distant = kind(tool.binary, tool.folder.with_name(f"{tool.name}-s3"), tool.name)
    place = {"YESTER_STORE": f"s3://{BUCKET}/yester"} if tool.is_subject else {
        "RESTIC_REPOSITORY": f"s3:{server.url}/{BUCKET}/restic"}
    distant.environment |= server.environment() | place
    return distant


def build_server():
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "-p", "s3-server"], cwd=REPOSITORY,
                   check=True)


def measure_s3(bench):
    build_server()
    tree = inputs.source_tree(bench.folder, bench.small)
    dump = bench.dumps().piped[0]
    sizes = inputs.tree_size(tree)[1], dump.stat().st_size
    about = (f"The source tree, {sizes[0] / 10**6:,.0f} MB, and the first night of the dump, {sizes[1] / 10**6:,.0f} MB, "
             "in a store in S3 on loopback: the server of the tests, its objects on the same disk. Cold is the page "
             f"cache, the server's with it. *{LOCAL}* is this program with its store in a directory. Requests are those "
             "that the server counted, for a GB of what was backed up or read. The first byte is that of a file of the "
             "tree, from the moment at which the mount is begun, without any cache of the program's own.")
    result = Result(bench, "s3", about, [PEER, LOCAL, DISTANT])
    takers = {column: Taker(bench, result, column) for column in result.data["columns"]}
    folder = bench.folder / "s3-server"
    for number in range(bench.runs):
        for column in in_turn([PEER, LOCAL, DISTANT], number):
            note(f"s3, round {number + 1} of {bench.runs}: {column}")
            shutil.rmtree(folder, ignore_errors=True)
            with takers[column].round():
                if column == LOCAL:
                    with bench.yester.fresh_store():
                        measure(takers[column], bench.yester, None, tree, dump, sizes)
                elif tool := bench.tool(column) or (column == DISTANT and bench.yester):
                    with Server(folder) as server, at(server, tool).fresh_store():
                        measure(takers[column], at(server, tool), server, tree, dump, sizes)
    shutil.rmtree(folder, ignore_errors=True)
    result.finish()


def measure(taker, tool, server, tree, dump, sizes):
    """Takes all figures of one store, which is empty at first."""
    counted(taker, server, "ingest of the tree, cold", sizes[0], lambda: tool.ingest(tree))
    first_byte(taker, tool, tree, READY)
    if server:
        with Server(server.folder, LATENCY_MS) as far:
            first_byte(taker, at(far, tool), tree, FAR)
    with tool.mounted(tree) as mount:
        counted(taker, server, "tar of the mounted tree, cold", sizes[0],
                lambda: piped('tar -cf - "$1" | cat > /dev/null', mount.at(tree), cold=False,
                              limit_seconds=taker.limit_seconds))
    counted(taker, server, "ingest of the dump, cold", sizes[1], lambda: tool.ingest_stream("dump", dump))
    with tool.mounted("dump", "dump") as mount:
        counted(taker, server, "cat of the mounted dump, cold", sizes[1],
                lambda: timed(["cat", mount.at("dump")], cold=False, limit_seconds=taker.limit_seconds))


def counted(taker, server, name, size, run):
    """Takes a step, and the requests that it took for each GB."""
    if server:
        server.reset()
    taker.take(name, run)
    if server:
        taker.figures[f"{name}, requests a GB"] = server.requests() / (size / 10**9)


def first_byte(taker, tool, tree, row):
    shutil.rmtree(tool.folder / "cache", ignore_errors=True)
    path = next(path for path in sorted(tree.rglob("*.rs")) if path.stat().st_size > 0)
    with tool.mounted(path) as mount:
        step = timed(["head", "-c", "1", mount.at(path)], cold=False)
        taker.figures[f"{row}, s"] = mount.seconds + step.seconds
