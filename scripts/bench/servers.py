"""Servers that the benchmarks dump and restore: each on a socket in a temporary folder, ended with its block."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time

# Building indexes takes minutes on a slow disk; what takes longer hangs.
LIMIT_SECONDS = 1800


class Postgres:
    """The newest PostgreSQL here, on a data folder that stays. It forgives no crash: it does not sync.

    It vacuums only when told, so that no worker of its own disturbs a measurement.
    """

    SETTINGS = {
        "listen_addresses": "", "fsync": "off", "autovacuum": "off", "timezone": "UTC", "jit": "off",
        "shared_buffers": "512MB", "maintenance_work_mem": "256MB", "max_wal_size": "16GB",
        "checkpoint_timeout": "1h",
    }

    def __init__(self, data):
        self.data = pathlib.Path(data)
        self.programs = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))

    def __enter__(self):
        self.socket = pathlib.Path(tempfile.mkdtemp(prefix="yester-bench-pg-", dir="/tmp"))
        try:
            give_to_postgres(self.socket)
            if not self.data.is_dir():
                self.data.mkdir()
                give_to_postgres(self.data)
                self.as_postgres("initdb", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8")
            if (self.data / "postmaster.pid").exists():
                self.stop()  # A run that was killed left it.
            settings = self.SETTINGS | {"unix_socket_directories": self.socket}
            options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
            self.as_postgres("pg_ctl", "-w", "-l", self.socket / "log", "-o", options, "start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.socket, ignore_errors=True)

    def stop(self):
        for how in ("fast", "immediate"):
            try:
                return self.as_postgres("pg_ctl", "-w", "-t", "120", "-m", how, "stop")
            except subprocess.SubprocessError:
                continue

    def as_postgres(self, program, *arguments):
        # The server refuses to run as root.
        command = ["runuser", "-u", "postgres", "--", self.programs / program, "-D", self.data, *arguments]
        subprocess.run(command, check=True, cwd="/", timeout=LIMIT_SECONDS, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def client(self, program, *arguments):
        """Returns the command that runs a client program on this server."""
        return [str(self.programs / program), "-h", str(self.socket), "-U", "postgres", *map(str, arguments)]

    def run(self, program, *arguments):
        subprocess.run(self.client(program, *arguments), check=True, timeout=LIMIT_SECONDS)

    def query(self, database, sql):
        command = self.client("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database)
        answer = subprocess.run(command, input=sql, check=True, timeout=LIMIT_SECONDS, capture_output=True, text=True)
        return answer.stdout.strip()

    def version(self):
        text = subprocess.check_output([self.programs / "postgres", "--version"], text=True)
        return f"PostgreSQL {text.split()[2]}"


def give_to_postgres(folder):
    owner = pwd.getpwnam("postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)


class Redis:
    """A redis-server with nothing in it, that keeps nothing."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="yester-bench-redis-", dir="/tmp")
        self.socket = f"{self.folder.name}/redis.sock"
        command = ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", self.folder.name]
        self.server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while subprocess.run(self.client("ping"), capture_output=True).stdout != b"PONG\n":
                if self.server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("redis-server does not answer")
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.server.terminate()
        try:
            self.server.wait(30)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        self.folder.cleanup()

    def client(self, *arguments):
        return ["redis-cli", "-s", self.socket, *arguments]

    def send(self, commands):
        """Sends commands, each a tuple of words, and sees that each was carried out."""
        body = b"".join(protocol(words) for words in commands)
        answer = subprocess.run(self.client("--pipe"), input=body, check=True, timeout=LIMIT_SECONDS,
                                capture_output=True)
        if b"errors: 0" not in answer.stdout:
            raise RuntimeError(f"redis-server refused: {answer.stdout.decode()}")

    def dump(self, path):
        with open(path, "wb") as file:
            subprocess.run(self.client("--rdb", "-"), stdout=file, stderr=subprocess.DEVNULL, check=True,
                           timeout=LIMIT_SECONDS)


def protocol(words):
    """Writes a command as Redis' protocol wants it."""
    words = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
