"""How files are read, in a mount and in the file system itself: found, packed, printed, probed. Cold, then warm."""

from probes import probed
from tools import timed

# What finds something, and looks at the size of every file.
FIND = ["-size", "+3k"]


def find(*paths, **how):
    return timed(["find", *paths, *FIND], **how)


def piped(script, *arguments, **how):
    return timed(["bash", "-o", "pipefail", "-c", script, "bash", *arguments], **how)


def find_twice(taker, *paths):
    twice(taker, "find -size", lambda **how: find(*paths, **how))


def tar_twice(taker, path):
    # GNU tar does not read what goes to /dev/null, so the bytes go through a pipe.
    twice(taker, "tar", lambda **how: piped('tar -cf - "$1" | cat > /dev/null', path, **how))


def cat_twice(taker, path):
    twice(taker, "cat", lambda **how: timed(["cat", path], **how))


def twice(taker, name, read):
    taker.take(f"{name}, cold", lambda: read(cold=True, limit_seconds=taker.limit_seconds))
    taker.take(f"{name}, warm", lambda: read(cold=False, limit_seconds=taker.limit_seconds))


def probe(taker, kind, path):
    """Reads at places that are other ones in every round, and the same for all columns."""
    with taker.attempt(f"{kind}, cold, mean, ms"):
        taker.figures |= probed(kind, path, taker.number, taker.limit_seconds)
