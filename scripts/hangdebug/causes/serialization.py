"""The event loop's thread turns data into text, or text into data.

JSON, pydantic models, pickle, XML and YAML are work for the CPU. A hundred thousand rows take seconds, and
`async` does not help: nothing in between gives the loop a turn. FastAPI does the same after your handler has
returned, when it turns the result into a response; such a stack holds no line of yours.

Repair: fewer rows at a time (pages, a stream), a faster encoder (`orjson`, `model_dump_json`), no response
model where the data is trusted, or `await asyncio.to_thread(...)`, best with an encoder that drops the GIL.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen, computes
from hangdebug.evidence.vocabulary import EvidenceKind
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

JSON = ("json", "orjson", "ujson", "simplejson", "rapidjson", "msgspec")
BINARY = ("msgpack", "_msgpack", "cbor2", "pickle", "_pickle", "cloudpickle", "dill", "marshal", "fastavro")
MODELS = ("pydantic", "pydantic_core", "marshmallow", "cattrs")
TEXTS = ("xml", "lxml", "xmltodict", "bs4", "yaml", "_yaml", "tomllib", "csv")
CODECS = (*JSON, *BINARY, *MODELS, *TEXTS)
PLACES = ("fastapi/encoders.py", "fastapi/routing.py:serialize_response", "starlette/responses.py:render")
METHODS = (
    "model_validate",
    "model_validate_json",
    "model_dump",
    "model_dump_json",
    "validate_python",
    "validate_json",
    "dump_python",
    "dump_json",
    "parse_obj",
    "parse_raw",
    "jsonable_encoder",
    "SerializeToString",
    "ParseFromString",
)


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or not computes(wait, seen):
        return None
    kernel: set[EvidenceKind] = {"kernel"} if wait.motion.cpu is not None else set()
    if wait.inside_package(*CODECS) or wait.inside(*PLACES):
        what = wait.outermost if wait.frame else "the result of a request's handler"
        return Match(frozenset({"frames", *kernel}), (f"It serializes: {what}.",))
    named = [name for name in wait.called if name.split(".")[0] in CODECS and "." in name]
    if wait.leaf and (named or wait.line_calls(*METHODS)):
        words = f"Its line serializes, in a C call without a frame: {wait.text}"
        return Match(frozenset({"source", *kernel}), (words,))
    return None


CAUSE = Cause(
    id="serialization",
    title="data is serialized or parsed on the event loop's thread",
    picture="computes",
    match=match,
    confused_with={"cpu-bound": "there the application's own lines compute; here they call an encoder or a parser."},
)
