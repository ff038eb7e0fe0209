"""A synchronous database driver waits on the event loop's thread.

It waits for a slow query, for a network that went away, or for a lock inside of the database: a row that another
transaction has changed and not committed, a SQLite file that another connection writes. Key-value stores and
caches count too. Drivers in C (sqlite3, psycopg2, MySQLdb) have no frame: the line and the kernel show them. Before a
lock SQLite sleeps a tenth of a second and asks again, in C, where Python's own sleep would be another system call.

Repair: an asynchronous driver (asyncpg, `psycopg.AsyncConnection`, `redis.asyncio`), or a `def` route; a
`statement_timeout` or `lock_timeout` either way. For a lock, look for who holds it: `pg_stat_activity` shows
the session that is "idle in transaction".
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence import light as re
from hangdebug.evidence.kernel import sleeps_in_c
from hangdebug.evidence.source import makers
from hangdebug.evidence.vocabulary import EvidenceKind
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

DRIVERS = (
    "sqlite3",
    "psycopg",
    "psycopg2",
    "psycopg_pool",
    "psycopg_binary",
    "psycopg_c",
    "pg8000",
    "pymysql",
    "MySQLdb",
    "mysql",
    "mariadb",
    "oracledb",
    "cx_Oracle",
    "pyodbc",
    "pymssql",
    "duckdb",
    "snowflake",
    "redshift_connector",
    "sqlalchemy",
    "sqlmodel",
    "peewee",
    "pony",
    "pymongo",
    "mongoengine",
    "redis",
    "rediscluster",
    "valkey",
    "hiredis",
    "pymemcache",
    "pylibmc",
    "memcache",
    "bmemcached",
    "cassandra",
    "clickhouse_driver",
    "clickhouse_connect",
    "neo4j",
    "elasticsearch",
    "opensearchpy",
    "influxdb_client",
    "etcd3",
    "ldap3",
    "happybase",
    "dbutils",
    "playhouse",
    "asyncpg",
    "aiosqlite",
    "aiomysql",
    "asyncmy",
    "aiopg",
    "motor",
    "databases",
    "tortoise",
    "aioredis",
    "coredis",
    "aiomcache",
    "beanie",
)
IN_FRAMEWORKS = ("django/db/", "odoo/sql_db.py", "frappe/database/")
METHODS = (
    "execute",
    "executemany",
    "executescript",
    "commit",
    "rollback",
    "fetchone",
    "fetchall",
    "fetchmany",
    "callproc",
)
SERVERS = {
    1433: "SQL Server",
    1521: "Oracle",
    3306: "MySQL",
    5432: "PostgreSQL",
    6379: "Redis",
    6432: "PgBouncer",
    9042: "Cassandra",
    11211: "memcached",
    26257: "CockroachDB",
    27017: "MongoDB",
}
RAW = (
    "recv",
    "recv_into",
    "recvfrom",
    "read",
    "readline",
    "send",
    "sendall",
    "connect",
    "create_connection",
    "makefile",
)
BUSY = ("loop-busy", "healthy", "threadpool-exhausted")


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state in BUSY:
        return None
    peer = f" Its peer: {wait.detail}." if wait.descriptors else ""
    if wait.inside_package(*DRIVERS) or wait.inside_folder(*IN_FRAMEWORKS):
        kind = "an asynchronous" if wait.coroutine else "a synchronous"
        return Match(frozenset({"frames"}), (f"It called {wait.outermost}, {kind} driver.{peer}",))
    if not wait.leaf or wait.running:
        return None
    kernel: frozenset[EvidenceKind] = frozenset({"kernel"} if wait.syscall else ())
    if wait.line_calls(*METHODS) or connects(scene, wait):
        return Match(
            frozenset({"source", *kernel}), (f"Its line calls a database driver written in C: {wait.text}{peer}",)
        )
    server = server_of(wait)
    if server and not wait.line_calls(*RAW):
        return Match(kernel, (f"The kernel has it in {wait.kernel}: that is {server}'s port.",))
    if not wait.text and asks_again(wait):
        words = f"The kernel has it in {wait.kernel}, and it wakes again and again: C code sleeps there, not Python."
        return Match(kernel, (words,))
    return None


def asks_again(wait: Wait) -> bool:
    """Short sleeps of a C library that follow each other, while a SQLite file is open: how that waits for a lock."""
    return bool(sleeps_in_c(wait.syscall, wait.args) and wait.detail and wait.motion.woke)


def connects(scene: Scene, wait: Wait) -> bool:
    """Whether the line opens a connection, or ends the transaction of one: `with connection:` commits."""
    made = makers(scene.evidence.sources, wait.frame, wait.entered) if wait.entered and wait.frame else frozenset()
    return any(
        name.split(".")[0] in DRIVERS and name.rpartition(".")[2].lower() in ("connect", "connection")
        for name in wait.called | made
    )


def server_of(wait: Wait) -> str | None:
    """The database that usually listens on the port of the peer, if the thread waits for a peer."""
    found = re.search(r"-> \S+:(\d+)", wait.detail)
    return SERVERS.get(int(found[1])) if found else None


CAUSE = Cause(
    id="database",
    title="a synchronous database driver waits",
    picture="network",
    fix="to_thread",
    match=match,
    confused_with={
        "connection-pool": "there no query was sent: all connections are in use.",
        "sleep": "SQLite sleeps while it waits for a lock; the line calls `execute`, not `sleep`.",
        "lock": "a lock inside of the database has no holder in this process; ask the database who holds it.",
    },
    owed="likely",
    frames_wait=True,
)
