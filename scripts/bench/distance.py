"""What a host with an empty cache does with a large store: what it reads of the index, and how long it takes."""

import os
import shutil

from bench import Result, Taker, mounted, note
from growth import OF
from peers import Yester
from tools import Mount, stored_mb


class Cold(Yester):
    """This program on a host that opens the store by its key file, and has read nothing of it."""

    def __init__(self, opened):
        super().__init__(opened.binary, opened.folder)
        self.environment = opened.without_passphrase().environment

    def run(self, *arguments, **how):
        self.forget()
        return super().run(*arguments, **how)

    def forget(self):
        shutil.rmtree(self.folder / "cache", ignore_errors=True)

    def mounted(self, path, name="tree", limit_seconds=300):
        """Mounts one snapshot; ready when a file of it is there."""
        self.forget()
        point = self.folder / "mnt"
        command = [self.binary, "mount", "--foreground", "--snapshot", f"latest:{name}", point]
        return Mount(command, self.environment, point, ".", path, limit_seconds)


def measure_distance(bench):
    about = ("Random bytes in chunks of 5 kB on average (`init --chunk-size 4K`), in two sources. Each step begins with an "
             "empty cache folder and an empty page cache, and opens the store by a key file. The sizes are chunks, about.")
    tool = Yester(bench.yester.binary, bench.yester.folder, init_options=["--chunk-size", "4K"])
    result = Result(bench, "distance", about, [tool.name])
    taker = Taker(bench, result, tool.name)
    for number in range(bench.runs):
        for chunks in bench.sizes["chunks"]:
            note(f"distance, round {number + 1} of {bench.runs}: {chunks:,}")
            with taker.round({OF: chunks}), tool.fresh_store():
                size = str(chunks // 2 * 4985)
                for name in ("first", "second"):
                    tool.ingest_command(name, ["head", "-c", size, "/dev/urandom"])
                cold = Cold(tool)
                taker.figures["store, MB"] = tool.stored_mb()
                taker.figures["index objects"] = len(os.listdir(tool.folder / "store/index"))
                taker.figures["index in the store, MB"] = stored_mb(tool.folder / "store/index")
                taker.take("snapshots", lambda: cold.run("snapshots"))
                taker.take("ls", lambda: cold.run("ls", "latest:second"), peak=True)
                taker.figures["index on the host after it, MB"] = stored_mb(tool.folder / "cache")
                with mounted(taker, cold, "second", "second", "mount of one snapshot, a file of it there"):
                    pass
                taker.take("stats, which takes the whole index", lambda: cold.run("stats"), peak=True)
                taker.figures["index on the host, MB"] = stored_mb(tool.folder / "cache")
    result.finish()
