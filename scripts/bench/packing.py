"""The limit of what a backup can cost: `tar` and `zstd` do the same work without encryption, index or history."""

import os

from inputs import LARGE_FILE
from readings import find, piped
from tools import must_be_equal, timed

class PackedTree:
    """A tree as `tar | zstd`."""

    def __init__(self, path, scratch):
        self.path, self.file, self.target = path, scratch / "packed.tar.zst", scratch / "unpacked"

    def pack(self):
        return piped('tar -cf - "$1" 2> /dev/null | zstd -q -3 -T2 -o "$2"', self.path, self.file)

    def measure(self, taker, discard):
        """Notes the limits of the further steps under the names of what they limit; discards what it unpacked."""
        taker.take("first ingest, cold", self.pack)
        taker.figures["store, MB"] = os.stat(self.file).st_size / 10**6
        self.look(taker)
        taker.take("restore, cold", self.unpack)
        must_be_equal(self.path, self.unpacked())
        discard(self.target)
        taker.take("verify all data, cold", self.decode)

    def look(self, taker):
        taker.take("unchanged ingest, cold", lambda: find(self.path))

    def unpack(self):
        self.target.mkdir()
        return piped('zstd -dqc "$1" | tar -xf - -C "$2"', self.file, self.target)

    def unpacked(self):
        return f"{self.target}{self.path}"

    def decode(self):
        return piped('zstd -dqc "$1" > /dev/null', self.file)


class PackedFile(PackedTree):
    """The one file of a folder, as `zstd` alone."""

    def pack(self):
        return timed(["zstd", "-q", "-3", "-T2", self.inside(self.path), "-o", self.file])

    def look(self, taker):
        """Whether the file changed is known without reading anything."""

    def unpack(self):
        self.target.mkdir()
        return timed(["zstd", "-dq", self.file, "-o", self.inside(self.target)])

    def unpacked(self):
        return self.target

    @staticmethod
    def inside(folder):
        return folder / LARGE_FILE
