"""Grade a transcript against one case of evals.json: bare Python, no model, the same grades every time.

    python tests/evals/grade.py --case 1 transcript.jsonl
    python tests/evals/grade.py --case 1 transcript.jsonl --files outputs --out grading.json
    python tests/evals/grade.py --case hung:regex transcript.txt      a server of tests/hung that stage.py laid out
    python tests/evals/grade.py --render      renew the sentences of evals.json from its checks

Exit status 0 when all passed, 1 when some did not, 2 when the case or the transcript cannot be read.
grading.json has the form that skill-creator's viewer reads.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from rules import RULES, Run
from transcript import NotATranscript, read

EVALS = HERE / "evals.json"


def cases(path: Path = EVALS) -> dict[int, dict[str, Any]]:
    return {case["id"]: case for case in json.loads(path.read_text(encoding="utf-8"))["evals"]}


def case_of(name: str) -> dict[str, Any] | None:
    """A case by its number in evals.json; or one made of a server of tests/hung, graded by how that was built."""
    if name.startswith("hung:"):
        from stage import unseen  # which needs more than the standard library

        return unseen(name.partition(":")[2])
    return cases().get(int(name)) if name.isdigit() else None


def sentence(check: dict[str, Any]) -> str:
    """What a check demands, for people and for graders that are models."""
    words = {key: " or ".join(map(str, value)) if isinstance(value, list) else value for key, value in check.items()}
    return RULES[check["rule"]][1].format(**words)


def grade(case: dict[str, Any], run: Run) -> dict[str, Any]:
    """grading.json for one run: each check of the case, in order, with its evidence."""
    graded = []
    for check in case["checks"]:
        parameters = {key: value for key, value in check.items() if key != "rule"}
        passed, evidence = RULES[check["rule"]][0](run, **parameters)
        graded.append({"text": sentence(check), "passed": passed, "evidence": evidence[:400]})
    count = sum(one["passed"] for one in graded)
    calls = [step for step in run.steps if step.kind == "call"]
    return {
        "expectations": graded,
        "assertion_results": graded,  # the same, under the name that agentskills.io's guide once gave it
        "summary": {
            "passed": count,
            "failed": len(graded) - count,
            "total": len(graded),
            "pass_rate": round(count / len(graded), 2),
        },
        "execution_metrics": {
            "tool_calls": dict(collections.Counter(step.tool for step in calls)),
            "total_tool_calls": len(calls),
            "total_steps": len(run.steps),
            "errors_encountered": sum(step.failed for step in calls),
            "output_chars": len(run.answer),
            "transcript_chars": sum(len(step.text) + len(step.output) for step in run.steps),
        },
        "timing": {"executor_duration_seconds": round(run.transcript.seconds, 1)},
    }


def render(path: Path = EVALS) -> str:
    """evals.json with its sentences as the checks say, under both names that readers look for."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    for case in whole["evals"]:
        case["expectations"] = [sentence(check) for check in case["checks"]]
        case["assertions"] = case["expectations"]
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("transcript", nargs="?", type=Path)
    parser.add_argument("--case", default="", help="a number, or hung:NAME")
    parser.add_argument("--files", type=Path, help="the folder of what the run left")
    parser.add_argument("--out", type=Path, help="where to write grading.json (default: to standard output)")
    parser.add_argument("--render", action="store_true")
    arguments = parser.parse_args()
    if arguments.render:
        EVALS.write_text(render(), encoding="utf-8")
        return 0
    case = case_of(arguments.case)
    if arguments.transcript is None or case is None:
        print(f"grade: name a transcript, and a --case of {', '.join(map(str, cases()))} or hung:NAME", file=sys.stderr)
        return 2
    try:
        run = Run(read(arguments.transcript.read_text(encoding="utf-8")), arguments.files)
    except (OSError, UnicodeDecodeError, NotATranscript) as error:
        print(f"grade: {arguments.transcript}: {error}", file=sys.stderr)
        return 2
    result = grade(case, run)
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    for one in result["expectations"]:
        print(f"{'pass' if one['passed'] else 'FAIL'}  {one['text']}  [{one['evidence']}]", file=sys.stderr)
    if not arguments.out:
        print(text, end="")
    return 0 if result["summary"]["failed"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
