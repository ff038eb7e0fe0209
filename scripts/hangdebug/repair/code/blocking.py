"""What libraries are known to block in, and whether a call of them may go to a thread by itself.

    redis..Redis()     get                `receivers` writes the call `r.get(key)` as "redis.Redis().get"
    psycopg2.connect().cursor() execute   an object that a library made, and what is called on it

Only what waits for its peer, the disk or a long computation is here: what builds a query, or looks at what has come
already, is not. A client that threads may share is handed over call by call. A connection, a session, a mail or a file
is a conversation of several calls, and belongs to one thread: these are told, and stay.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

from hangdebug.evidence import light as re
from hangdebug.evidence.light import dataclass

PEER, DATABASE, DISK = "waits for its peer", "waits for the database", "waits for the disk"
COMPUTES = "computes for as long as its data is large"
SHARED, OWN, WHOLE = "shared", "own", "whole"
MODULES, MODULE, BLANK = r"\.\.", r"\.(?:\w+\.)*", r"\ "  # once escaped
WHOLES = {  # why a call is not handed over by itself
    DATABASE: "a connection or session, and what it returns, belong to one thread at a time: hand one function that "
    "opens it, works with it and returns plain values to asyncio.to_thread(), or use an asynchronous driver",
    PEER: "it is one of several calls of a conversation: hand one function that connects, works and closes to "
    "asyncio.to_thread()",
    DISK: "the rest of the work on the file waits for it too: hand one function that does all of that to "
    "asyncio.to_thread(), since a slow disk or a network file system makes it long",
    COMPUTES: "it is one of several steps on the same object: hand one function that does all of them to "
    "asyncio.to_thread()",
}
RUNS = "runs a second event loop"
RUNS_LOOP = (
    "that raises a RuntimeError where a loop runs already (under nest_asyncio it holds up every other request): await "
    "the coroutine itself"
)
TAKES_ITEM = (
    "a cancellation would leave its thread waiting, which then takes the next item for nobody: use redis.asyncio"
)
LISTENS = "it does so for each message: use redis.asyncio, whose pubsub is looped over by `async for`"
TAKES = "a cancellation would leave the thread waiting, which then takes the lock for nobody: use its asyncio form"


@dataclass(frozen=True)
class Library:
    """Objects of libraries and what waits when it is called on them, in words; see `pattern`.

    `lazy` fetches only while it is looped over, `but` are names that do not wait. `fit` is SHARED where threads may
    share the object, OWN where they may not, WHOLE where no call of it is handed over by itself; `why` says so then.
    """

    does: str
    fit: str
    made: str
    names: str
    lazy: str = ""
    but: str = ""
    why: str = ""

    @property
    def refusal(self) -> str:
        return self.why or WHOLES[self.does] * (self.fit == WHOLE)

    @cached_property
    def packages(self) -> frozenset[str]:
        return frozenset(word.split(".")[0] for word in (self.made or self.names).split())

    @cached_property
    def calls(self) -> re.Pattern[str]:
        return pattern(self.made, self.names, self.but)

    @cached_property
    def draws(self) -> re.Pattern[str]:
        return pattern(self.made, self.lazy or "-")


def pattern(made: str, names: str, but: str = "") -> re.Pattern[str]:
    """Of the objects and names, in words: `*` in a word is any letters, `**` any steps, `..` any modules between."""
    kept = f"(?!{choice(but)}$)" if but else ""
    return re.compile(rf"{choice(made)}\.{kept}{choice(names)}" if made else choice(names))


def choice(words: str) -> str:
    found = re.escape(words).replace(r"\*\*", r"(?:\.\w+|\(\)|\[\])*").replace(r"\*", r"\w*")
    return f"(?:{'|'.join(found.replace(MODULES, MODULE).split(BLANK))})"


def behind(made: str, *steps: str) -> str:
    """Each of the objects with each of the steps behind it."""
    return " ".join(f"{word}{step}" for word in made.split() for step in steps)


REDIS = behind("redis..Redis redis..StrictRedis redis..RedisCluster valkey..Valkey", "()", ".from_url()")
REDIS += " redis.from_url() valkey.from_url()"
BOTO = "boto3.client() boto3.Session().client() boto3.session.Session().client()"
RESOURCE = behind("boto3.resource() boto3.Session().resource()", "", ".Table()", ".Bucket()", ".Object()", ".Queue()")
MONGO = "pymongo..MongoClient()** pymongo..Collection()** pymongo..Database()**"
DRIVERS = (
    "psycopg2 psycopg psycopg.Connection pymysql MySQLdb mysql.connector mariadb oracledb cx_Oracle pyodbc pymssql "
    "snowflake.connector redshift_connector pg8000 pg8000.dbapi pg8000.native"
)
POOLS = "psycopg2.pool.*() psycopg_pool.ConnectionPool() psycopg_pool.NullConnectionPool()"
OPENED = behind(f"{DRIVERS} sqlite3", ".connect()") + " " + behind(POOLS, ".getconn()", ".connection()")
OPENED += " psycopg2.extensions.connection() psycopg..Connection() sqlite3.Connection() pymysql..Connection()"
CURSORS = behind(OPENED, ".cursor()") + " psycopg2.extensions.cursor() psycopg..Cursor() sqlite3.Cursor()"
ENGINE = "sqlalchemy..create_engine() sqlmodel.create_engine() sqlalchemy..Engine()"
SESSION = (
    "sqlalchemy.orm..Session() sqlmodel..Session() sqlalchemy.orm..sessionmaker()() "
    "sqlalchemy.orm..sessionmaker().begin() sqlalchemy.orm..scoped_session() sqlalchemy.orm..scoped_session()()"
)
GOOGLE = "google.cloud..*Client()** google.cloud..*Client.from_*()**"
AZURE = "azure..*Client() azure..*Client.from_*() azure..*Client().get_*()** azure..*Client.from_*().get_*()**"
MODELS = (
    "openai.OpenAI()** openai.AzureOpenAI()** anthropic.Anthropic()** anthropic.AnthropicBedrock()** groq.Groq()** "
    "mistralai.Mistral()** cohere.Client()** cohere.ClientV2()** google.genai.Client()**"
)
IMAGE = "PIL.Image.open()** PIL.Image.new()** PIL.Image.frombytes()** PIL.Image.fromarray()** PIL.Image.Image()**"
MAIL = "smtplib.SMTP smtplib.SMTP_SSL imaplib.IMAP4 imaplib.IMAP4_SSL poplib.POP3 ftplib.FTP ftplib.FTP_TLS"
LOOPS = "asyncio..new_event_loop() asyncio..get_event_loop() asyncio..get_running_loop() uvloop.new_event_loop()"

LOOP = Library(
    RUNS,
    SHARED,
    "",
    "asyncio.run anyio.run trio.run uvloop.run asyncio.Runner().run asgiref.sync.async_to_sync() "
    + behind(LOOPS, ".run_until_complete", ".run_forever"),
    why=RUNS_LOOP,
)
LIBRARIES = (
    Library(
        PEER, SHARED, "", "requests.request httpx.request urllib3.request feedparser.parse socket.create_connection"
    ),
    Library(PEER, SHARED, "urllib3.PoolManager()", "request urlopen"),
    Library(
        DATABASE,
        SHARED,
        REDIS,
        "*",
        lazy="scan_iter() hscan_iter() sscan_iter() zscan_iter()",
        but="pipeline pubsub lock register_script close from_url get_encoder get_connection_kwargs get_retry json ft "
        "ts bf set_response_callback cf cms topk tdigest *scan_iter client transaction monitor _* blpop brpop blmove "
        "brpoplpush bzpopmin bzpopmax blmpop xread xreadgroup wait",
    ),
    Library(
        DATABASE,
        SHARED,
        REDIS,
        "blpop brpop blmove brpoplpush bzpopmin bzpopmax blmpop xread xreadgroup",
        why=TAKES_ITEM,
    ),
    Library(DATABASE, SHARED, behind(REDIS, ".pipeline()"), "execute"),
    Library(DATABASE, OWN, behind(REDIS, ".pubsub()"), "-", lazy="listen()", why=LISTENS),
    Library(DATABASE, SHARED, behind(REDIS, ".lock()"), "acquire", why=TAKES),
    Library(
        PEER,
        SHARED,
        BOTO,
        "*",
        lazy="get_paginator().paginate()",
        but="generate_* get_paginator get_waiter can_paginate close waiter_names meta exceptions _*",
    ),
    Library(PEER, SHARED, behind(BOTO, ".get_waiter()"), "wait"),
    Library(PEER, SHARED, behind(BOTO, ".*()[]"), "read readlines"),
    Library(
        PEER,
        OWN,
        RESOURCE,
        "*_item get_object put_object *_file *_fileobj *_message *_messages get put delete load reload query scan copy",
        lazy="*.all() *.filter() *.limit() *.page_size()",
    ),
    Library(
        DATABASE,
        SHARED,
        MONGO,
        "find_one* insert_one insert_many update_one update_many replace_one delete_one delete_many count_documents "
        "estimated_document_count distinct bulk_write create_index* drop_index* drop drop_database drop_collection "
        "list_collection_names list_database_names command server_info",
        lazy="find()** aggregate()**",
    ),
    Library(DATABASE, WHOLE, DRIVERS, "connect"),
    Library(DATABASE, WHOLE, POOLS, "getconn connection"),
    Library(
        DATABASE,
        WHOLE,
        f"{OPENED} {CURSORS}",
        "execute executemany executescript execute_string callproc commit rollback copy copy_from copy_to copy_expert",
    ),
    Library(DATABASE, WHOLE, ENGINE, "connect begin raw_connection"),
    Library(
        DATABASE,
        WHOLE,
        behind(ENGINE, ".connect()", ".begin()") + " sqlalchemy..Connection()",
        "execute exec_driver_sql scalar scalars commit rollback",
    ),
    Library(
        DATABASE,
        WHOLE,
        SESSION,
        "execute exec scalar scalars commit rollback flush refresh get get_one merge bulk_* query()**.all "
        "query()**.first query()**.one query()**.one_or_none query()**.scalar query()**.count query()**.get "
        "query()**.update query()**.delete",
        lazy="query()**",
    ),
    Library(
        DATABASE,
        SHARED,
        "elasticsearch.Elasticsearch() opensearchpy.OpenSearch()",
        "search index get mget create delete update bulk count exists msearch ping info scroll delete_by_query "
        "update_by_query indices.* cluster.* cat.*",
    ),
    Library(DATABASE, SHARED, "", "elasticsearch.helpers.bulk opensearchpy.helpers.bulk"),
    Library(
        DATABASE,
        OWN,
        "pymemcache..*Client() memcache.Client() pylibmc.Client()",
        "get set add delete incr decr get_many set_many get_multi set_multi gets cas touch flush_all",
    ),
    Library(
        DATABASE, OWN, "clickhouse_driver.Client() clickhouse_connect.get_client()", "execute query* command insert*"
    ),
    Library(DATABASE, WHOLE, "neo4j.GraphDatabase.driver() neo4j.GraphDatabase.driver().session()", "run execute_*"),
    Library(DATABASE, SHARED, "cassandra.cluster.Cluster()", "connect connect().execute"),
    Library(
        PEER,
        SHARED,
        MODELS,
        "create parse generate retrieve edit list complete chat embed rerank count_tokens "
        "generate_content embed_content",
    ),
    Library(
        PEER, SHARED, "", "openai.*.create openai..*.create google.generativeai.GenerativeModel().generate_content"
    ),
    Library(
        PEER,
        OWN,
        GOOGLE,
        "upload_* download_* get_bucket get_blob get_table get_dataset get_job exists reload delete create_* copy_blob "
        "rewrite compose patch result query query_and_wait insert_rows* load_table_* get set update add commit "
        "access_secret_version translate recognize *_detection",
        lazy="list_*() stream()",
    ),
    Library(
        PEER,
        SHARED,
        AZURE,
        "upload_* download_* delete_* create_* get_secret send_* receive_* set_secret exists readall readinto",
        lazy="list_*()",
    ),
    Library(PEER, SHARED, "minio..Minio()", "*_object *_objects *_bucket bucket_exists"),
    Library(PEER, WHOLE, "", MAIL),
    Library(
        PEER,
        WHOLE,
        behind(MAIL, "()"),
        "connect sendmail send_message login starttls helo ehlo quit select search fetch store append logout uid list "
        "retr* stor* nlst dir mlsd cwd delete rename size stat",
    ),
    Library(PEER, WHOLE, "paramiko..SSHClient()", "connect exec_command open_sftp invoke_shell"),
    Library(
        PEER,
        WHOLE,
        "paramiko..SSHClient().open_sftp() paramiko.SFTPClient.from_transport()",
        "get put getfo putfo listdir* stat open remove rename mkdir file",
    ),
    Library(
        PEER,
        WHOLE,
        "http.client.HTTPConnection() http.client.HTTPSConnection()",
        "connect request getresponse getresponse().read",
    ),
    Library(PEER, SHARED, "", "xmlrpc.client.ServerProxy().* dns.resolver.resolve dns.resolver.query"),
    Library(PEER, WHOLE, "", "pika.BlockingConnection"),
    Library(PEER, WHOLE, "pika.BlockingConnection().channel()", "basic_* queue_declare start_consuming"),
    Library(PEER, SHARED, "kafka.KafkaProducer() confluent_kafka.Producer()", "flush send().get"),
    Library(PEER, SHARED, "slack_sdk..WebClient()", "chat_* files_* conversations_* users_* views_* auth_*"),
    Library(PEER, OWN, "twilio.rest.Client()**", "create list fetch update"),
    Library(PEER, SHARED, "", behind("stripe.* stripe.*.*", ".create", ".retrieve", ".list", ".modify", ".capture")),
    Library(
        PEER, OWN, "docker.from_env() docker.DockerClient()", "containers.* images.* networks.* volumes.* ping info"
    ),
    Library(PEER, SHARED, "celery.result.AsyncResult()", "get wait"),
    Library(DATABASE, WHOLE, "", "pandas.read_sql*"),
    Library(COMPUTES, SHARED, "", "pandas.read_* PIL.ImageOps.fit PIL.ImageOps.contain PIL.ImageOps.pad"),
    Library(
        COMPUTES,
        OWN,
        "pandas.DataFrame()** pandas.read_*()** pandas.concat()** pandas.merge()**",
        "to_csv to_excel to_parquet to_feather to_pickle to_hdf to_json",
    ),
    Library(COMPUTES, WHOLE, IMAGE, "save resize thumbnail convert filter rotate transform quantize load"),
    Library(
        DISK,
        WHOLE,
        "",
        "PIL.Image.open builtins.open io.open gzip.open bz2.open lzma.open tarfile.open zipfile.ZipFile",
    ),
    Library(DISK, WHOLE, "pathlib.Path()** pathlib.Path.*()**", "read_text read_bytes write_text write_bytes open"),
    Library(DISK, WHOLE, "", "shutil.copy* shutil.move shutil.rmtree shutil.make_archive shutil.unpack_archive"),
)


@lru_cache(maxsize=4096)
def known_to_block(trail: str) -> Library | None:
    """What is known of the call, None where nothing is."""
    if trail.split(".")[0] in LOOP.packages and LOOP.calls.fullmatch(trail):
        return LOOP
    return next((each for each in candidates(trail) if each.calls.fullmatch(trail)), None)


@lru_cache(maxsize=4096)
def fetches_later(trail: str) -> Library | None:
    """What is known of an object that waits whenever the next of it is asked for, None where nothing is."""
    return next((each for each in candidates(trail) if each.lazy and each.draws.fullmatch(trail)), None)


def candidates(trail: str) -> list[Library]:
    """What is known of the package, unless the trail goes through its asynchronous side."""
    known = of_package(trail.split(".")[0])
    low = trail.lower() if known else ""
    return [] if "async" in low or ".aio" in low else known


@lru_cache(maxsize=1024)
def of_package(name: str) -> list[Library]:
    return [each for each in LIBRARIES if name in each.packages]
