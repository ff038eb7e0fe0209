"""What libraries call their functions, and so what a frame shows: whose loop polls, whose pool works, who serves."""

from __future__ import annotations

from hangdebug.evidence import light as re

# A dump with short names ("queue.py") does not tell the standard library from a module of the user's with
# the same name. These are the modules that take part in hangs; statistics.py, code.py, calendar.py and
# others that people like to use for modules of their own are left to them.
STANDARD_TOPS = frozenset(
    """
    __future__ _collections_abc _pydatetime _pydecimal _pyio _strptime _threading_local _weakrefset abc argparse
    ast asyncio asyncore base64 bdb bisect bz2 cProfile cmd codecs codeop collections concurrent configparser
    contextlib contextvars copy copyreg csv ctypes dataclasses datetime dbm decimal email encodings enum
    fileinput fnmatch fractions ftplib functools genericpath getpass glob gzip hashlib heapq hmac html http
    imaplib importlib inspect io ipaddress json linecache locale logging lzma multiprocessing nntplib ntpath
    numbers operator os pathlib pdb pickle pkgutil poplib posixpath pprint pty queue random re reprlib runpy
    sched secrets selectors shelve shutil signal smtplib socket socketserver sqlite3 sre_compile sre_parse ssl
    string struct subprocess tarfile telnetlib tempfile textwrap threading timeit tkinter tokenize tomllib traceback
    tracemalloc types typing unittest urllib uuid warnings weakref wsgiref xml xmlrpc zipfile zipimport zoneinfo
""".split()
)
# The same for installed packages: short names carry no site-packages, so the well-known ones are listed.
INSTALLED_TOPS = frozenset(
    """
    IPython MySQLdb OpenSSL PIL _pydevd_bundle _pytest aio_pika aiobotocore aiocache aiofiles aiohttp
    aioitertools aiokafka aiomysql aioredis aiormq aiosqlite amqp anthropic anyio apscheduler argon2 ariadne
    arq asgi_correlation_id asgiref async_lru async_timeout asyncmy asyncpg attr attrs azure backoff bcrypt
    beanie billiard blacksheep blinker boto3 botocore bottle bs4 cachecontrol cachetools cassandra celery
    certifi cheroot cherrypy click clickhouse_connect clickhouse_driver confluent_kafka cryptography cv2
    daphne dask databases dateutil ddtrace debugpy distributed django docker dramatiq duckdb elastic_transport
    elasticsearch engineio eventlet exceptiongroup faiss fakeredis falcon fastapi fastmcp faust flask gevent
    google gradio granian graphql greenlet grpc gunicorn h11 h2 hiredis hpack httpcore httptools httpx
    httpx_sse huey huggingface_hub hypercorn hyperframe ijson ipykernel itsdangerous jinja2 joblib jose
    jsonschema jwt kafka keras kombu kubernetes langchain langchain_core ldap3 litestar llama_index loguru
    lxml mangum markupsafe marshmallow matplotlib mcp minio mongoengine motor msgpack multipart mysql nats
    neo4j nest_asyncio newrelic nltk numpy onnxruntime openai opensearchpy opentelemetry oracledb orjson pamqp
    pandas paramiko passlib peewee pika pkg_resources polars priority prometheus_client prompt_toolkit psycopg
    psycopg2 psycopg_pool pyarrow pydantic pydantic_core pydantic_settings pydevd pygments pymemcache pymongo
    pymysql pyodbc pyramid pytest python_multipart quart ray redis requests retry rich rq s3transfer sanic
    scipy sentence_transformers sentry_sdk setuptools simplejson sklearn slack_sdk slowapi sniffio snowflake
    socketio spacy sqlalchemy sqlmodel sse_starlette starlette strawberry streamlit stripe structlog taskgroup
    taskiq tenacity tensorflow textual tokenizers torch tornado tortoise tqdm transformers trio twilio typer
    ujson urllib3 uvicorn uvloop waitress watchfiles watchgod webob websocket websockets werkzeug wrapt
    wsproto yaml zmq zope absl accelerate botbuilder datasets deepspeed discord evaluate execnet flax fsspec gcsfs
    ipywidgets jax jupyter_client jupyter_core jupyter_server lightning mlflow nbclient nbconvert nextcord playwright
    pluggy pyrogram pytest_asyncio pytest_timeout pytorch_lightning s3fs scrapy selenium telegram telethon
    torch_xla traitlets trl twisted wandb xdist
    aioboto3 aiogram aiomcache aiomonitor aiopg aiosmtplib airflow alembic asyncssh awslambdaric blockbuster
    channels_redis couchbase curl_cffi etcd3 exchangelib flask_caching flask_sqlalchemy frappe func_timeout gspread
    hazelcast homeassistant httplib2 hvac imapclient influxdb_client jaydebeapi keystoneauth1 librosa litellm
    mechanicalsoup minimalmodbus multiprocess netmiko niquests numba odoo ollama openpyxl paho pathos pexpect pinecone
    psutil psycogreen ptyprocess pyhive pymodbus pymssql pysolr pytds qdrant_client rediscluster requests_futures
    requests_html rethinkdb rpyc serial smbclient smbprotocol sqlglot stopit suds swiftclient tarantool telebot
    timeout_decorator treq tweepy txaio vllm weaviate xmltodict yarl zeep zeroconf
    bmemcached coredis cx_Oracle dbutils happybase mariadb memcache pg8000 playhouse pony psycopg_binary psycopg_c
    pylibmc redshift_connector valkey
    cassandra impala ldap pymilvus thrift trino
""".split()
)

KNOWN_TOPS = STANDARD_TOPS | INSTALLED_TOPS
PACKAGES = frozenset({"dns"})  # dnspython's folder; a file of that name is more often the application's

# Libraries that call no function of the application's: a stack can end in them, and does not begin there.
CALLED_LAST = frozenset(
    """
    requests urllib3 urllib httpx httpcore http ssl socket selectors subprocess queue psycopg psycopg2 pymysql redis
    sqlite3 pymongo asyncpg paramiko pika boto3 botocore json pickle time smtplib sqlalchemy
""".split()
)

# Functions of libraries by file, to know them by where a path was made neutral ("/somewhere/threading.py") or cut to
# the file's name ("_base.py").
FAMILIAR = {
    "threading.py": "wait wait_for join acquire _wait_for_tstate_lock _shutdown _bootstrap _bootstrap_inner run start",
    "queue.py": "get put join",
    "selectors.py": "select",
    "ssl.py": "read recv recv_into do_handshake",
    "socket.py": "readinto create_connection accept",
    "subprocess.py": "communicate _communicate wait _wait _try_wait",
    "concurrent/futures/_base.py": "result exception as_completed result_iterator wait __exit__",
    "concurrent/futures/thread.py": "_worker shutdown _python_exit run",
    "concurrent/futures/process.py": "_process_worker shutdown _python_exit",
    "multiprocessing/process.py": "_bootstrap join run",
    "multiprocessing/popen_fork.py": "wait poll _launch",
    "multiprocessing/connection.py": "_recv _recv_bytes recv recv_bytes wait _poll poll",
    "multiprocessing/queues.py": "get put",
    "multiprocessing/pool.py": "worker join get wait map",
    "multiprocessing/synchronize.py": "acquire __enter__ wait",
    "multiprocessing/spawn.py": "spawn_main _main",
    "asyncio/base_events.py": "_run_once run_forever run_until_complete",
    "asyncio/events.py": "_run",
    "asyncio/runners.py": "run",
    "asyncio/windows_events.py": "run_forever _poll select",
    "asyncio/locks.py": "acquire wait __aenter__",
    "asyncio/queues.py": "get put join",
    "logging/__init__.py": "emit flush handle acquire callHandlers _log info warning error debug",
    "http/client.py": "_read_status begin getresponse readinto _safe_read _read_chunked",
    "urllib/request.py": "urlopen do_open http_open https_open",
    "urllib3/connectionpool.py": "urlopen _make_request",
    "urllib3/connection.py": "getresponse connect _new_conn",
    "requests/adapters.py": "send",
    "requests/sessions.py": "send request get post",
    "requests/api.py": "get post request",
    "sqlalchemy/pool/impl.py": "_do_get",
    "sqlalchemy/util/queue.py": "get",
    "sqlalchemy/engine/default.py": "do_execute",
    "starlette/testclient.py": "handle_request",
    "anyio/from_thread.py": "start_blocking_portal",
    "uvicorn/server.py": "serve main_loop",
}
# Names of files that hardly anybody gives to a file of an application's.
UNLIKELY_NAMES = frozenset(
    "threading.py selectors.py base_events.py windows_events.py _base.py connectionpool.py".split()
)

# -- who runs an event loop, and what it does ---------------------------------------------------------

# Who waits for another thread to end; 3.13 has no Python frame below join() any more.
JOIN = ("threading.py:join", "threading.py:_wait_for_tstate_lock")

# Whoever stands in one of these runs a loop: the loop itself, or a server that is started with its own.
LOOP = (
    "asyncio/base_events.py:_run_once",
    "asyncio/base_events.py:run_forever",
    "asyncio/base_events.py:run_until_complete",
    "asyncio/runners.py:run",
    "asyncio/windows_events.py:run_forever",
    "uvloop/__init__.py:run",
    "nest_asyncio.py:_run_once",
    "nest_asyncio.py:run_until_complete",
    "trio/_core/_run.py:run",
    "trio/_core/_run.py:unrolled_run",
    "uvicorn/server.py:run",
    "uvicorn/server.py:serve",
    "uvicorn/_compat.py:asyncio_run",
    "hypercorn/asyncio/run.py:_run",
    "aiohttp/web.py:run_app",
    "aiohttp/worker.py:run",
    "sanic/server/runners.py:_run_server_forever",
    "sanic/server/runners.py:_serve_http_1",
    "sanic/server/runners.py:_serve_http_3",
    "tornado/platform/asyncio.py:start",
    "twisted/internet/asyncioreactor.py:run",
    "twisted/internet/base.py:run",
    "twisted/internet/base.py:mainLoop",
    "curio/kernel.py:run",
    "curio/kernel.py:kernel_run",
    "taskgroup/runners.py:run",
    *(
        f"granian/server/{kind}.py:_spawn_{protocol}_worker"
        for kind in ("mp", "mt")
        for protocol in ("asgi", "asgi_lifespan", "rsgi", "rsgi_lifespan")
    ),
)
RUNS_LOOP = frozenset(["asyncio.run", "uvloop.run", "anyio.run"])  # as a source line calls them
RUNS_ITS_LOOP = frozenset(["run_until_complete", "run_forever"])  # methods of a loop, whatever its name
# Where a loop waits for events, and where it calls a handler.
POLL = (
    "selectors.py:select",
    "selectors.py:_select",
    "asyncio/windows_events.py:select",
    "asyncio/windows_events.py:_poll",
    "trio/_core/_io_epoll.py:get_events",
    "twisted/internet/epollreactor.py:doPoll",
)
HANDLE = ("asyncio/events.py:_run",)
# The innermost frame of a loop's stack that was cut, or of one that runs C code: an idle one goes on to its poll.
RUNS_SOMETHING = (
    "asyncio/base_events.py:_run_once",
    "asyncio/base_events.py:run_forever",
    "asyncio/base_events.py:run_until_complete",
    *HANDLE,
)

# -- imports -----------------------------------------------------------------------------------------

IMPORTS = (
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
    "importlib/__init__.py",
    "importlib/_bootstrap.py",
)
# Where an import waits for the lock of a module, and what is in the middle of one.
IMPORT_LOCK = tuple(
    f"{IMPORTS[index]}:{name}"
    for index in (0, 3)
    for name in ("acquire", "__enter__", "_lock_unlock_module", "_acquire")
)
RUNS_MODULE = tuple(f"{IMPORTS[0]}:{name}" for name in ("_load_unlocked", "exec_module"))

# -- pools, and processes that are started ------------------------------------------------------------

# The outermost frame of a pool's own in each of its threads or processes.
POOL_WORKERS = (
    "concurrent/futures/thread.py:_worker",
    "multiprocessing/pool.py:worker",
    "concurrent/futures/process.py:_process_worker",
    "trio/_core/_thread_cache.py:_work",
)
POOL = (*POOL_WORKERS, "concurrent/futures/thread.py:run")
ANYIO_WORKER = "anyio/_backends/_asyncio.py:run"
POOL_NAME = re.compile(r"^(?:AnyIO worker thread|(?:asyncio|uvloop|ThreadPoolExecutor-\d{1,6})_\d{1,6})$")
# Where a pool's thread waits for work.
PARKED = ("queue.py:get", "threading.py:wait")
# A forked child keeps its parent's stack below these frames: it does not run the loop that stands there.
CHILDREN = ("multiprocessing/process.py:_bootstrap", "concurrent/futures/process.py:_process_worker")
FORKED = (*CHILDREN, "os.py:fork")

# -- servers -----------------------------------------------------------------------------------------

# What a command line calls them by.
SERVER_PROGRAMS = ("gunicorn", "uvicorn", "hypercorn", "granian", "daphne", "waitress", "fastapi", "celery")
SERVERS = frozenset("uvicorn hypercorn gunicorn granian daphne starlette fastapi aiohttp sanic quart litestar".split())
ASYNC = SERVERS | frozenset("asyncio anyio uvloop trio asgiref sse_starlette".split())
SERVES = frozenset("wrap app run_asgi run_endpoint_function stream_response".split())  # run inside of a loop alone
# gunicorn alone has workers of both kinds: these run no event loop.
SYNCHRONOUS = tuple(f"gunicorn/workers/{name}.py" for name in "sync gthread ggevent geventlet base_async".split())
# The synchronous side of async packages: a thread in them waits for a loop that another thread runs.
SYNCHRONOUS_SIDE = (
    "starlette/testclient.py",
    "fastapi/testclient.py",
    "anyio/from_thread.py",
    "asgiref/current_thread_executor.py",
    "gunicorn/workers/base.py",
    "gunicorn/arbiter.py",
    "gunicorn/app/",
    "gunicorn/http/",
)
SUPERVISORS = ("uvicorn/supervisors/", "gunicorn/arbiter.py", "hypercorn/run.py", "granian/server/")
WORKERS = ("gunicorn/workers/",)  # forked from the supervisor: its frames stand below theirs
WORKER_CALLS = ("granian/server/mp.py:_spawn_wsgi_worker", "granian/server/mt.py:_spawn_wsgi_worker")  # the same
# Servers written in C: each thread calls the application for one request after another, with no frame below it.
SERVERS_IN_C = frozenset(["uwsgi", "mod_wsgi", "unit"])

# -- tasks -------------------------------------------------------------------------------------------

# Where coroutines stand while they are suspended: no thread does, so such a stack is a task's.
SUSPENDED = (
    "asyncio/locks.py",
    "asyncio/queues.py",
    "asyncio/tasks.py:sleep",
    "asyncio/futures.py:__await__",
    "asyncio/streams.py",
    "asyncio/taskgroups.py:__aexit__",
    "anyio/_backends/_asyncio.py:wait",
    "anyio/streams/memory.py",
    "trio/_core/_traps.py",
)
# Files whose classes are made to wait on.
ASYNCIO_PRIMITIVES = ("asyncio/locks.py", "asyncio/queues.py")
PRIMITIVES = (*ASYNCIO_PRIMITIVES, "anyio/_core/_synchronization.py", "anyio/streams/memory.py")
TIMED_WAITS = ("wait_for", "_wait", "sleep")  # of asyncio/tasks.py: each may end by itself
