"""A diagnosis for programs that are there already: a collector of OpenTelemetry, Prometheus, a chat.

All are made of the JSON contract (text.as_dict) and `seconds`, for how long a request has had no answer at least, None
where that is not known:

    as_event(contract, seconds, now)     an event as OTLP/JSON, one line: POST it to a collector's /v1/logs
    as_metrics(contract, seconds, now)   a file for node_exporter's textfile collector
    as_chat(contract, seconds, now)      {"text": ...}, which webhooks of chats take
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any, Callable

from hangdebug import __version__
from hangdebug.answer.states import ENTRIES
from hangdebug.errors import printable

Contract = Mapping[str, Any]
INFO, WARN, ERROR = ("INFO", 9), ("WARN", 13), ("ERROR", 17)  # OpenTelemetry's own numbers
BREAK = "\u200b"  # no width: what is shown is the same, and an @ notifies nobody, an address is no link


def as_event(contract: Contract, seconds: float | None, now: float) -> str:
    """A LogRecord with an event's name; code and process are called as OpenTelemetry's conventions call them."""
    frame, process = contract["blocking_frame"] or {}, contract["process"]
    word, severity = severity_of(contract)
    nanoseconds = str(int(now * 1_000_000_000))
    record = {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": severity,
        "severityText": word,
        "eventName": "hang.diagnosis",
        "body": {"stringValue": printable(contract["summary"])},
        "attributes": attributes(
            {
                "hang.state": contract["state"],
                "hang.cause": contract["cause"],
                "hang.confidence": float(contract["confidence"]),
                "hang.unanswered.seconds": seconds,
                "code.function.name": frame.get("function"),
                "code.file.path": frame.get("file"),
                "code.line.number": frame.get("line"),
            }
        ),
    }
    about = {
        "process.pid": process["pid"],
        "process.runtime.name": "cpython" if process["python"] else None,
        "process.runtime.version": process["python"],
    }
    scope = {"scope": {"name": "backend-hang-debug", "version": __version__}, "logRecords": [record]}
    whole = {"resourceLogs": [{"resource": {"attributes": attributes(about)}, "scopeLogs": [scope]}]}
    return json.dumps(whole) + "\n"


def severity_of(contract: Contract) -> tuple[str, int]:
    state = ENTRIES[contract["state"]]
    return INFO if state.well else ERROR if state.decided else WARN


def attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that are known, as OTLP/JSON has them: a 64-bit number is a string there."""
    kinds = {str: "stringValue", int: "intValue", float: "doubleValue"}
    return [
        {"key": key, "value": {kinds[type(value)]: str(value) if type(value) is int else value}}
        for key, value in values.items()
        if value is not None
    ]


def as_metrics(contract: Contract, seconds: float | None, now: float) -> str:
    """Gauges by pid. What is no number stands in the labels of an info metric, as Prometheus wants it."""
    frame, state = contract["blocking_frame"] or {}, ENTRIES[contract["state"]]
    pid = {"pid": contract["process"]["pid"] or 0}
    what = {**pid, "state": state.name, "cause": contract["cause"]}
    where = {"function": frame.get("function", ""), "file": frame.get("file", ""), "line": frame.get("line") or ""}
    rows = [
        ("info", "What the process does, and where.", {**what, **where}, 1),
        ("hangs", "1 where it hangs, 0 where not, or not known.", pid, state.decided and not state.well),
        ("decided", "1 where the evidence can say, 0 where not.", pid, state.decided),
        ("confidence", "From 0 to 1.", pid, contract["confidence"]),
        ("timestamp_seconds", "When it was diagnosed.", pid, round(now, 3)),
    ]
    rows += [("unanswered_seconds", "Since when a request has no answer, at least.", pid, seconds)] if seconds else []
    lines = []
    for name, text, labels, value in rows:
        inside = ",".join(f'{key}="{quoted(str(word))}"' for key, word in labels.items())
        full = f"hang_diagnosis_{name}"
        number = f"{float(value):.10g}" if name != "timestamp_seconds" else f"{value:.3f}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} gauge", f"{full}{{{inside}}} {number}"]
    return "\n".join(lines) + "\n"


def quoted(value: str) -> str:
    return printable(value.replace("\n", " ")).replace("\\", "\\\\").replace('"', '\\"')


def as_chat(contract: Contract, seconds: float | None, now: float) -> str:
    """Plain words. What comes from the evidence makes no link and no tag, and notifies nobody."""
    frame, doubts = contract["blocking_frame"], contract["doubts"]
    since = f", a request without an answer for {seconds:.0f} s" if seconds else ""
    lines = [f"{contract['state']} / {contract['cause']} (confidence {contract['confidence']:.2f}){since}"]
    lines += [contract["summary"]]
    lines += [f"in {frame['function']}, {frame['file']}:{frame['line']}"] if frame else []
    lines += [f"doubt: {doubt}" for doubt in doubts[:2]]
    text = html.escape(printable("\n".join(lines)), quote=False)
    return json.dumps({"text": text.replace("@", f"@{BREAK}").replace("://", f":{BREAK}//")}) + "\n"


FORMS: dict[str, Callable[[Contract, float | None, float], str]] = {
    "otel": as_event,
    "prometheus": as_metrics,
    "chat": as_chat,
}
