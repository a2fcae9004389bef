"""What the nights work on: dumps of a shop's database, night by night, and pairs of other things that change."""

import hashlib
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys

from inputs import WORDS, made_once
from servers import LIMIT_SECONDS, Postgres, Redis

DUMP = "shop.dump"
ROWS = 3_000_000
NIGHTS = 5
KEYS = 200_000
RECORDS = 1_350_000
SERIES_NIGHTS = 24
SERIES_ROWS = 400_000
# One row in 200 is deleted, another updated, and as many are new, each night.
CHANGE = 200
DJANGO = ("5.1", "5.2")

STATES = "new paid packed shipped delivered returned".split()

# Each run chooses the same, since all comes from a row's number.
PICK = """
CREATE FUNCTION pg_temp.pick(id bigint, salt integer, below integer) RETURNS integer IMMUTABLE LANGUAGE sql AS
    'SELECT ((hashint8extended(id, salt) & 9223372036854775807) % below)::integer';
CREATE FUNCTION pg_temp.word(id bigint, salt integer) RETURNS text IMMUTABLE LANGUAGE sql AS
    $$SELECT ({words})[1 + pg_temp.pick(id, salt, {count})]$$;
CREATE FUNCTION pg_temp.state(id bigint, salt integer) RETURNS text IMMUTABLE LANGUAGE sql AS
    $$SELECT ({states})[1 + pg_temp.pick(id, salt, {state_count})]$$;
"""
TABLES = """
CREATE TABLE orders (
    id bigint NOT NULL, customer integer NOT NULL, reference text NOT NULL, state text NOT NULL,
    placed timestamptz NOT NULL, changed timestamptz NOT NULL, total numeric(10,2) NOT NULL, note text);
CREATE TABLE shipments (
    id bigint NOT NULL, order_id bigint NOT NULL, carrier text NOT NULL, tracking text NOT NULL,
    sent timestamptz NOT NULL);
"""
ROWS_FROM_TO = """
INSERT INTO orders
    SELECT id, pg_temp.pick(id, 1, 400000), md5('order ' || id), pg_temp.state(id, 2),
           timestamptz '2024-01-01' + id * interval '21.000401 s',
           timestamptz '2024-01-02' + id * interval '21.000401 s' + pg_temp.pick(id, 3, 900000) * interval '1.000003 s',
           pg_temp.pick(id, 4, 90000) / 100.0 + 1,
           CASE pg_temp.pick(id, 5, 10) WHEN 0 THEN NULL ELSE concat_ws(' ', pg_temp.pick(id, 6, 9) + 1, 'x',
               pg_temp.word(id, 7), pg_temp.word(id, 8),
               CASE WHEN pg_temp.pick(id, 9, 2) = 0 THEN 'and ' || pg_temp.word(id, 10) END) END
    FROM generate_series({first}::bigint, {last}) AS id;
INSERT INTO shipments
    SELECT id, id, pg_temp.word(id % 12, 11), upper(substr(md5('shipment ' || id), 1, 18)),
           timestamptz '2024-01-04' + id * interval '21.000401 s'
    FROM generate_series({first}::bigint, {last}) AS id WHERE pg_temp.pick(id, 12, 10) = 0;
"""
KEYS_OF_TABLES = """
ALTER TABLE orders ADD PRIMARY KEY (id);
ALTER TABLE shipments ADD PRIMARY KEY (id);
CREATE INDEX ON orders (customer);
CREATE INDEX ON shipments (order_id);
ALTER TABLE shipments ADD FOREIGN KEY (order_id) REFERENCES orders ON DELETE CASCADE;
"""
CHANGES = """
DELETE FROM orders WHERE pg_temp.pick(id, 1000 + {night}, {change}) = 0;
UPDATE orders SET state = pg_temp.state(id, 2000 + {night}), total = total + 1,
        changed = timestamptz '2026-01-01' + {night} * interval '1 day'
            + pg_temp.pick(id, 3, 80000) * interval '1.000003 s'
    WHERE pg_temp.pick(id, 3000 + {night}, {change}) = 0;
"""
CHECKSUM = """
SELECT count(*), sum(hashtextextended(orders::text, 0)) FROM orders
UNION ALL SELECT count(*), sum(hashtextextended(shipments::text, 0)) FROM shipments
"""


class Dumps:
    """The dumps of some nights, the last once more as pg_dump wrote it to a file, and the database one night later."""

    def __init__(self, folder):
        self.folder = folder
        self.cluster = folder / "cluster"
        self.piped = [folder / f"night-{night}.dump" for night in range(1, NIGHTS + 1)]
        self.written = folder / "last-night-written.dump"


def dumps(folder, scale):
    """Returns the dumps of a database of a few million rows."""
    return Dumps(made_once(folder / "dumps", lambda new: write_dumps(Dumps(new), round(ROWS * scale))))


def write_dumps(made, rows):
    with Postgres(made.cluster) as server:
        server.run("createdb", "shop")
        rows_from_to = ROWS_FROM_TO.format(first=1, last=rows)
        server.query("shop", functions() + TABLES + rows_from_to + KEYS_OF_TABLES)
        # The first night is not the database's first, so that there is free space where rows were deleted.
        pass_a_night(server, 0, rows)
        for number, path in enumerate(made.piped, start=1):
            print(f"night {number} of {NIGHTS}", file=sys.stderr)
            pass_a_night(server, number, rows)
            dump_through_pipe(server, path)
        server.run("pg_dump", "-Fc", "-Z0", "-f", made.written, "shop")
        pass_a_night(server, NIGHTS + 1, rows)


def functions():
    def array(words):
        return "ARRAY[" + ", ".join(f"'{word}'" for word in words) + "]"

    return PICK.format(words=array(WORDS), count=len(WORDS), states=array(STATES), state_count=len(STATES))


def pass_a_night(server, night, rows):
    new = rows // CHANGE
    first = rows + night * new + 1
    changes = CHANGES.format(night=night, change=CHANGE) + ROWS_FROM_TO.format(first=first, last=first + new - 1)
    server.query("shop", functions() + changes)
    server.query("shop", "VACUUM")


def dump_through_pipe(server, path):
    """Writes what pg_dump prints into a pipe, where it cannot go back to fill in its table of contents."""
    command = server.client("pg_dump", "-Fc", "-Z0", "shop")
    dumping = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        with open(path, "wb") as file:
            shutil.copyfileobj(dumping.stdout, file, 1 << 20)
        if dumping.wait(LIMIT_SECONDS) != 0:
            raise RuntimeError(f"pg_dump ended with {dumping.returncode}")
    finally:
        dumping.kill()


def redis_dumps(folder, scale):
    """Returns a Redis dump before and after a thousand keys of 200,000 changed, the server running on."""
    def make(new):
        keys = round(KEYS * scale)
        choose = random.Random(20261122)
        with Redis() as server:
            server.send(set_session(number, choose) for number in range(keys))
            server.dump(new / "before")
            server.send(set_session(number, choose) for number in choose.sample(range(keys), round(1000 * scale)))
            server.dump(new / "after")

    return pair(made_once(folder / "redis", make))


def set_session(number, choose):
    items = ", ".join(f'{{"sku": "{choose.choice(WORDS)}-{choose.choice(WORDS)}", "count": {choose.randrange(1, 9)}}}'
                      for _ in range(choose.randrange(16)))
    value = (f'{{"user": {choose.randrange(10**6)}, "token": "{choose.getrandbits(128):032x}", '
             f'"seen": {1_700_000_000 + choose.randrange(10**7)}, "agent": "browser {choose.randrange(60, 140)}", '
             f'"cart": [{items}]}}')
    return "SET", f"session:{number:08}", value


def sqlite_files(folder, scale):
    """Returns a SQLite database file before and after 0.5 % of its rows were updated."""
    def make(new):
        records = round(RECORDS * scale)
        choose = random.Random(20261123)
        database = sqlite3.connect(new / "after")
        database.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, account INTEGER, token, at, text)")
        database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)",
                             (event(number, choose) for number in range(records)))
        database.execute("CREATE INDEX events_account ON events (account)")
        database.commit()
        shutil.copyfile(new / "after", new / "before")
        changed = choose.sample(range(records), records // CHANGE)
        database.executemany("REPLACE INTO events VALUES (?, ?, ?, ?, ?)",
                             (event(number, choose) for number in changed))
        database.commit()
        database.close()

    return pair(made_once(folder / "sqlite", make))


def event(number, choose):
    at = f"2026-{choose.randrange(1, 13):02}-{choose.randrange(1, 29):02} {choose.randrange(24):02}:00:00"
    text = " ".join(choose.choices(WORDS, k=choose.randrange(6, 18)))
    return number, choose.randrange(50_000), f"{choose.getrandbits(128):032x}", at, text


def release_tars(folder, _scale):
    """Returns tars of two releases of Django, as their sources come from the Python registry."""
    def make(new):
        for release, name in zip(DJANGO, ("before", "after")):
            fetched = new / "fetched"
            subprocess.run(["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                            "--no-binary", "Django", "--dest", fetched, f"Django=={release}"],
                           check=True, timeout=LIMIT_SECONDS)
            source = fetched / "source"
            source.mkdir()
            subprocess.run(["tar", "-xf", next(fetched.glob("*.tar.gz")), "-C", source, "--strip-components=1"],
                           check=True)
            subprocess.run(["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner",
                            "-cf", new / name, "-C", source, "."], check=True)
            shutil.rmtree(fetched)

    return pair(made_once(folder / "releases", make))


def series(path, scale):
    """Writes the rows of a table to the same file night after night; yields the number of each once it is there."""
    choose = random.Random(24)
    rows = [series_row(number, choose) for number in range(int(SERIES_ROWS * scale))]
    changes, next_number = len(rows) // CHANGE, len(rows)
    for night in range(1, SERIES_NIGHTS + 1):
        path.write_bytes(b"".join(rows))
        yield night
        for place in choose.sample(range(len(rows)), changes):
            rows[place] = b""
        for place in choose.sample(range(len(rows)), changes):
            rows[place] = series_row(place, choose)
        for place in choose.sample(range(len(rows)), changes):
            rows[place] += series_row(next_number, choose)
            next_number += 1


def series_row(number, choose):
    words = " ".join(choose.choices(WORDS, k=choose.randint(5, 12)))
    key = hashlib.md5(b"%d" % choose.getrandbits(64)).hexdigest()
    changed = f"2026-{choose.randint(1, 12):02}-{choose.randint(1, 28):02} 12:00:00.{choose.randrange(10**6):06}"
    return f"{number}\t{choose.randrange(200_000)}\t{key}\t{words}\t{changed}\n".encode()


def pair(folder):
    return pathlib.Path(folder, "before"), pathlib.Path(folder, "after")
