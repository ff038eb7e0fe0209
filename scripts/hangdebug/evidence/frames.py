"""Whose frame is it: the standard library's, an installed package's, or the application's own."""

from __future__ import annotations

import re
from functools import lru_cache

from hangdebug.evidence.model import Frame

INSTALLED = re.compile(r"^.*[/\\](?:site|dist)-packages[/\\](?:.*\.egg[/\\])?(?P<tail>.+)$")
STANDARD = re.compile(
    r"^.*[/\\](?:lib|lib64|Lib)[/\\](?:(?:python|pypy)[23]\.\d+t?[/\\](?:lib-dynload[/\\])?)(?P<tail>.+)$"
)
WINDOWS = re.compile(r"^[A-Za-z]:\\.*\\Lib\\(?P<tail>.+)$", re.IGNORECASE)
# People cut what is private or long off a path: `.../concurrent/futures/_base.py`.
ELIDED = re.compile(
    r"^(?:\.{2,3}|\u2026)[/\\](?:lib(?:64)?[/\\])?(?:Lib[/\\]|(?:python|pypy)[23][\d.]*t?[/\\])?(?P<tail>.+)$"
)
VIRTUAL = re.compile(r"^<(?!stdin|ipython|input)[^>]*>$")
SCRIPT = re.compile(r"(?:^|[/\\])(?:bin|Scripts)[/\\][\w.+-]+$")

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
    string struct subprocess tarfile telnetlib tempfile textwrap threading timeit tokenize tomllib traceback
    tracemalloc types typing unittest urllib uuid warnings weakref wsgiref xml xmlrpc zipfile zipimport zoneinfo
""".split()
)
# The same for installed packages: short names carry no site-packages, so the well-known ones are listed.
INSTALLED_TOPS = frozenset(
    """
    IPython MySQLdb OpenSSL PIL _pytest _pydevd_bundle aio_pika aiobotocore aiofiles aiohttp aiokafka aiomysql
    aioredis aiosqlite amqp anthropic anyio apscheduler argon2 asgi_correlation_id asgiref asyncpg attr attrs
    azure backoff bcrypt beanie billiard blinker boto3 botocore bs4 cachetools cassandra celery certifi click
    clickhouse_connect clickhouse_driver confluent_kafka cryptography cv2 daphne databases ddtrace debugpy
    django docker dramatiq elastic_transport elasticsearch eventlet exceptiongroup fastapi flask gevent google
    granian greenlet grpc gunicorn h11 h2 hiredis httpcore httptools httpx httpx_sse hypercorn ijson ipykernel
    itsdangerous jinja2 joblib jose jwt kafka kombu kubernetes ldap3 litestar loguru lxml markupsafe
    marshmallow minio mongoengine motor msgpack multipart mysql neo4j nest_asyncio newrelic numpy openai
    opensearchpy opentelemetry oracledb orjson pandas paramiko passlib peewee pika polars prometheus_client
    psycopg psycopg2 psycopg_pool pyarrow pydantic pydantic_core pydantic_settings pydevd pymongo pymysql
    pyodbc pytest python_multipart quart redis requests retry rq s3transfer sanic scipy sentry_sdk simplejson
    sklearn slack_sdk slowapi sniffio snowflake sqlalchemy sqlmodel sse_starlette starlette stripe structlog
    tenacity torch tornado tortoise tqdm transformers trio twilio typer ujson urllib3 uvicorn uvloop waitress
    watchfiles watchgod websocket websockets werkzeug wrapt wsproto yaml zmq
    aiocache aioitertools aiormq ariadne arq async_lru async_timeout asyncmy blacksheep bottle cachecontrol cheroot cherrypy
    dask dateutil distributed duckdb engineio faiss fakeredis falcon faust fastmcp gradio graphql hpack huey huggingface_hub
    hyperframe jsonschema keras langchain langchain_core llama_index mangum matplotlib mcp nats nltk onnxruntime pamqp
    pkg_resources priority prompt_toolkit pygments pymemcache pyramid ray rich sentence_transformers setuptools socketio
    spacy strawberry streamlit taskgroup taskiq tensorflow textual tokenizers webob zope
""".split()
)


@lru_cache(maxsize=65536)
def library_path(file: str) -> str | None:
    """Where in its library a file stands, as in "concurrent/futures/thread.py"; None for the application's.

    Works on full paths (POSIX and Windows) and on the short names that py-spy's text has.
    """
    for pattern in (INSTALLED, STANDARD, WINDOWS):
        found = pattern.match(file)
        if found:
            return found["tail"].replace("\\", "/")
    if VIRTUAL.match(file) or SCRIPT.search(file):
        return file
    cut = ELIDED.match(file)
    path = (cut["tail"] if cut else file).replace("\\", "/")
    if path.startswith("/") or re.match(r"^[A-Za-z]:/", path):
        return None
    top = path.split("/")[0]
    if "/" not in path and "." not in path or top.endswith((".so", ".pyx", ".dylib")):  # a console script, a C file
        return path
    stem = top[:-3] if top.endswith(".py") else top
    return path if stem in STANDARD_TOPS or stem in INSTALLED_TOPS else None


def is_application(frame: Frame) -> bool:
    return library_path(frame.file) is None


def is_known_library(frame: Frame) -> bool:
    """True for the standard library and packages that everybody knows: never a company's own, installed one."""
    path = library_path(frame.file)
    if path is None:
        return False
    return not INSTALLED.match(frame.file) or re.split(r"[/.]", path)[0] in INSTALLED_TOPS


def package(frame: Frame) -> str:
    """The top-level package or module of a library frame ("urllib3"), "" for the application's."""
    path = library_path(frame.file) or ""
    top = path.split("/")[0]
    return top[:-3] if top.endswith(".py") else top


def calls(frame: Frame, *places: str) -> bool:
    """Whether `frame` is one of `places`, each "module/path.py:function" or "module/path.py" for all of it."""
    path = library_path(frame.file)
    return path is not None and (path in places or f"{path}:{frame.name}" in places)
