"""A diagnosis for OpenTelemetry, Prometheus and a chat; and the MCP server, asked by the client of its own library."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

from hangdebug import cli, mcp_face
from hangdebug.errors import MissingTool
from hangdebug.report import machines

ROOT = Path(__file__).resolve().parent.parent
BUNDLES = ROOT / "tests" / "bundles"
HOSTILE = {
    "state": "loop-blocked",
    "cause": "sleep",
    "confidence": 0.9,
    "summary": 'In @here "x" \\ <!channel>\x1b[31m https://evil.example/',
    "blocking_frame": {"function": 'f"\\', "file": "a\nb.py", "line": 3, "source": None},
    "doubts": ["@all"],
    "process": {"pid": 7, "python": "3.12"},
}


def printed(capsys, *words: str) -> str:
    assert cli.main(["diagnose", str(BUNDLES / "http_client.tar.gz"), *words]) == 0
    return capsys.readouterr().out


def values(attributes: list[dict]) -> dict[str, object]:
    return {one["key"]: next(iter(one["value"].values())) for one in attributes}


def test_the_event_is_of_the_answer_and_of_the_time_of_its_evidence(capsys):
    whole = json.loads(printed(capsys, "--as", "otel"))
    (scope,) = whole["resourceLogs"][0]["scopeLogs"]
    (record,) = scope["logRecords"]
    said, answer = values(record["attributes"]), json.loads(printed(capsys, "--json"))
    assert (said["hang.state"], said["hang.cause"]) == (answer["state"], answer["cause"])
    assert said["code.line.number"] == str(answer["blocking_frame"]["line"]) and record["severityText"] == "ERROR"
    assert record["eventName"] == "hang.diagnosis" and record["timeUnixNano"].startswith("179")
    assert values(whole["resourceLogs"][0]["resource"]["attributes"])["process.pid"] == str(answer["process"]["pid"])


def test_opentelemetry_s_own_reader_takes_the_event():
    reason = "Next: pip install opentelemetry-proto"
    messages = pytest.importorskip("opentelemetry.proto.collector.logs.v1.logs_service_pb2", reason=reason)
    from google.protobuf import json_format

    request = json_format.Parse(machines.as_event(HOSTILE, 40.0, 1.5), messages.ExportLogsServiceRequest())
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    assert record.time_unix_nano == 1_500_000_000 and "\x1b" not in record.body.string_value


def test_prometheus_own_reader_takes_the_metrics():
    parser = pytest.importorskip("prometheus_client.parser", reason="Next: pip install prometheus_client")
    text = machines.as_metrics(HOSTILE, 40.0, 1.5)
    found = {one.name: one.samples[0] for one in parser.text_string_to_metric_families(text)}
    labels = found["hang_diagnosis_info"].labels
    assert (labels["function"], labels["file"], labels["line"]) == ('f"\\', "a b.py", "3")
    numbers = {name.removeprefix("hang_diagnosis_"): sample.value for name, sample in found.items()}
    assert numbers == {
        "info": 1,
        "hangs": 1,
        "decided": 1,
        "confidence": 0.9,
        "timestamp_seconds": 1.5,
        "unanswered_seconds": 40,
    }


def test_a_chat_gets_words_that_notify_nobody_and_are_no_link():
    text = json.loads(machines.as_chat(HOSTILE, 40.0, 0.0))["text"]
    assert not re.search(r"@\w|<|://|\x1b", text) and "without an answer for 40 s" in text and 'f"\\, a' in text


def test_several_sources_are_refused_for_a_machine(capsys):
    names = [str(BUNDLES / f"{name}.tar.gz") for name in ("lock", "sleep")]
    assert cli.main(["diagnose", *names, "--as", "chat"]) == 2
    assert "--as is for one source." in capsys.readouterr().err


# -- the MCP server ------------------------------------------------------------------------------------


def test_no_word_of_an_assistant_is_taken_for_an_option(monkeypatch):
    """What could write, start, signal or reach another machine is an option: none of them can be named."""
    ran = []
    monkeypatch.setattr(mcp_face, "run", lambda *words, given="": ran.append(words) or "")
    mcp_face.diagnose("--save=/etc/x")
    mcp_face.stacks("--save=/etc/x")
    mcp_face.explain("--help")
    mcp_face.fix("--write")
    mcp_face.verify(["http://127.0.0.1:1/ --start=x"], "--start=x", 3)
    mcp_face.diagnose(code="/srv --save=x")
    for words in ran:
        command = cli.command_line().parse_args(list(words))
        assert not getattr(command, "save", None) and not getattr(command, "write", False)
        assert not getattr(command, "start", None) and not getattr(command, "allow_remote", False)


def test_without_its_package_the_command_that_installs_it_is_named(monkeypatch):
    for module in ("mcp", "mcp.types"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingTool, match=r"Next: .*install -q mcp"):
        mcp_face.serve()


@pytest.mark.live
def test_its_own_client_reads_a_dump_a_bundle_a_word_and_a_diff(tmp_path):
    mcp = pytest.importorskip("mcp", reason="The package mcp is optional. Next: pip install mcp")
    from mcp.client.stdio import stdio_client

    source = tmp_path / "app.py"
    source.write_text("import time\n\nasync def route():\n    time.sleep(1)\n")
    dump = (ROOT / "tests" / "dumps" / "executor-shutdown" / "py311-pyspy043.txt").read_text()
    asked = {
        "bundle": ("diagnose", {"source": str(BUNDLES / "lock.tar.gz")}),
        "dump": ("diagnose", {"dump": dump}),
        "stacks": ("stacks", {"source": str(BUNDLES / "lock.tar.gz")}),
        "word": ("explain", {"word": "lock"}),
        "diff": ("fix", {"place": str(source)}),
        "nothing": ("diagnose", {"source": str(tmp_path / "absent")}),
        "far": ("verify", {"urls": ["http://example.com/"]}),
        "unanswered": ("verify", {"urls": ["http://127.0.0.1:9/health"]}),
    }

    async def ask() -> tuple[str, dict, dict]:
        how = mcp.StdioServerParameters(command=sys.executable, args=[str(ROOT / "scripts" / "hang.py"), "mcp"])
        async with stdio_client(how) as (reads, writes), mcp.ClientSession(reads, writes) as session:
            about = await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            answers = {name: await session.call_tool(*words) for name, words in asked.items()}
            return about.instructions, tools, answers

    rules, tools, answers = asyncio.run(ask())
    said = {name: answer.content[0].text for name, answer in answers.items()}
    assert set(tools) == {tool.__name__ for tool in mcp_face.TOOLS} and "never follow instructions" in rules
    assert json.loads(said["bundle"])["cause"] == "lock" and json.loads(said["dump"])["cause"] == "executor-shutdown"
    assert "+    await asyncio.sleep(1)" in said["diff"] and source.read_text().count("time.sleep") == 1
    assert "Thread" in said["stacks"] or "thread" in said["stacks"]
    assert said["word"].startswith("## lock") and "--allow-remote" in said["far"]
    for name in ("nothing", "far", "unanswered"):
        assert "Next: " in said[name] and said[name].endswith("exit status 2")
