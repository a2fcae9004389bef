"""Runs one command and reports what it took. A process of its own, and a small one.

The kernel counts the memory of whoever starts a process into the peak of that process, so that a large parent would
show in every figure. Usage: child.py REPORT COMMAND..., with REPORT the number of a file descriptor to write to.
"""

import json
import os
import signal
import sys
import time


def main():
    report, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(report, False)
    started = time.monotonic()
    # Python ignores the signal, and its children would too.
    child = os.posix_spawnp(command[0], command, os.environ, setsigdef=[signal.SIGPIPE])
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - started
    os.write(report, json.dumps({
        "code": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "core_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * 1024 / 10**6,
    }).encode())


main()
