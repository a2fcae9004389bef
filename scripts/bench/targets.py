"""What this program is to reach, row by row: at most so many times what another column took, or at most so much."""

from nights import NO_DELTA
from probes import RANDOM
from reads import FIRST_NIGHT
from s3 import LOCAL

# No column to compare with: the figure itself.
ALONE = None

PEAKS = {f"{step}, peak MB": [(200, ALONE)]
         for step in ("first ingest, cold", "unchanged ingest, cold", "verify all data, cold", "mount, all of this")}

TARGETS = {
    "tree": PEAKS | {
        "first ingest, cold, s": [(0.6, "restic"), (1.15, "native")],
        "store, MB": [(0.85, "restic")],
        "unchanged ingest, cold, s": [(0.5, "restic"), (1.2, "native")],
        "restore, cold, s": [(0.6, "restic")],
        "verify all data, cold, s": [(0.7, "restic")],
        "find -size, cold, s": [(1, "native")],
        "find -size, warm, s": [(2, "native")],
        "tar, cold, s": [(0.7, "native")],
        "tar, warm, s": [(1.3, "native")],
    },
    "large": PEAKS | {
        "first ingest, cold, s": [(0.7, "restic")],
        "verify all data, cold, s": [(0.7, "restic")],
        f"{RANDOM}, cold, mean, ms": [(0.3, ALONE)],
    },
    "dump": {
        "first night, store, MB": [(1.1, "restic")],
        "later night, growth, MB": [(0.025, "restic")],
        "later night, s": [(0.4, "restic")],
        "first night, peak MB": [(200, ALONE)],
        "later night, peak MB": [(200, ALONE)],
    },
    "restore": {
        "pg_restore -j2, cold, s": [(1.05, "local file")],
        "lseek calls": [(1000, ALONE)],
    },
    "reads": {
        "cat, cold, s": [(1, "native")],
        f"{RANDOM}, cold, mean, ms": [(0.3, ALONE), (2, FIRST_NIGHT)],
        f"{RANDOM}, cold, 99 of 100 within, ms": [(2, FIRST_NIGHT)],
        "mount, all of this, peak MB": [(200, ALONE)],
    },
    "plain-tree": {"first ingest, cold, s": [(1.05, NO_DELTA)]},
    "many": {row: [(256, ALONE)] for row in PEAKS},
    "chunks": {f"{step}, peak MB": [(256, ALONE)] for step in ("gc without garbage, cold", "gc of half, cold")},
    "s3": {f"{step}, cold, s": [(1.43, LOCAL)]
           for step in ("ingest of the tree", "tar of the mounted tree", "ingest of the dump",
                        "cat of the mounted dump")}
    | {f"{step}, cold, requests a GB": [(1, "restic")]
       for step in ("ingest of the tree", "tar of the mounted tree", "ingest of the dump",
                    "cat of the mounted dump")},
    "distance": {"stats, which takes the whole index, peak MB": [(256, ALONE)]},
    "snapshots": {"mount ready with a key file, cold, s": [(0.1, ALONE)]},
}
