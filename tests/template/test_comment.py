"""The comment on GitHub: its step runs on results of a harmless change and of a hostile one."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from plumbline.reporting.problems import find_problems
from plumbline.results.files import dump_results
from plumbline.results.schema import BudgetResult, Cause, CountGrowth, Problem, Reason, TestOutcome
from tests.support.report_samples import benchmark, judged, results, small
from tests.template.test_pipelines import COMMENT, evaluate, load, run, substitute

# The longest comment that GitHub accepts.
MOST_CHARACTERS, MOST_BYTES = 65_536, 262_144

# A replacement for GitHub's command line. It returns given data and records requests.
GH = f"""#!{sys.executable}
import json, os, pathlib, shutil, subprocess, sys

state, words = pathlib.Path(os.environ["STATE"]), sys.argv[1:]
options = dict(zip(words, words[1:]))
if words[:2] == ["run", "download"]:
    if not (state / "artifact").exists():
        sys.exit("no artifact matches any of the names or patterns provided")
    shutil.copytree(state / "artifact", options["--dir"])
    sys.exit()
[path] = [word for word in words if word.startswith("repos/")]
method = options.get("--method", "GET")
if method == "GET":
    known = json.loads((state / "known.json").read_text())
    command = ["jq", "--raw-output", options["--jq"]]
    sys.exit(subprocess.run(command, input=json.dumps(known[path]), text=True).returncode)
with (state / "written.jsonl").open("a") as file:
    body = json.loads(pathlib.Path(options["--input"]).read_text())["body"]
    file.write(json.dumps([method, path, body]) + "\\n")
"""
MARK = "<!-- performance report -->\n"
SHA = "a" * 40
RUN_URL = "https://github.com/owner/name/actions/runs/9"
OPEN = [{"number": 3, "head": {"sha": "b" * 40}}, {"number": 4, "head": {"sha": SHA}}]
OTHERS = [
    {"id": 1, "user": {"login": "somebody"}, "body": f"{MARK}quoted"},
    {"id": 2, "user": {"login": "github-actions[bot]"}, "body": "something else"},
]


def comment(
    folder: Path, results: str | None, pulls: object = OPEN, comments: object = OTHERS, branch: str = "change"
) -> list[Any]:
    """Run the step on a results.json. Return the request that it sends: method, path and body."""
    if not shutil.which("jq"):
        pytest.skip("the step takes jq, which GitHub's runners have")
    (folder / "bin").mkdir()
    (folder / "bin" / "gh").write_text(GH)
    (folder / "bin" / "gh").chmod(0o755)
    (folder / "work").mkdir()
    if results is not None:
        (folder / "artifact" / "perf-results").mkdir(parents=True)
        (folder / "artifact" / "perf-results" / "results.json").write_text(results, encoding="utf-8")
        (folder / "artifact" / "perf-results" / "report.md").write_text("@everyone", encoding="utf-8")
    known = {"repos/owner/name/pulls": pulls, "repos/owner/name/issues/4/comments": comments}
    (folder / "known.json").write_text(json.dumps(known))
    run_of = {"id": 9, "name": "performance", "event": "pull_request", "head_branch": branch, "head_sha": SHA}
    run_of |= {"html_url": RUN_URL, "head_repository": {"owner": {"login": "fork"}}}
    contexts = {"github": {"token": "t", "repository": "owner/name", "event": {"workflow_run": run_of}}}
    job = load(COMMENT)["jobs"]["comment"]
    assert evaluate(job["if"], contexts)
    environ = {name: substitute(str(value), contexts) for name, value in job["env"].items()}
    environ |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "STATE": str(folder)}
    (folder / "step.sh").write_text(job["steps"][0]["run"])
    done = run(["bash", "-e", str(folder / "step.sh")], folder / "work", environ)
    assert done.code == 0, done.output
    written = folder / "written.jsonl"
    return [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []


def without_code(body: str) -> str:
    """Return a Markdown text without code, in which nothing has an effect."""
    assert "``" not in body
    return re.sub(r"`[^`\n]*`", "CODE", body)


def test_comment_is_made(tmp_path: Path) -> None:
    """The comment is at the open pull request of the measured commit and has what a reviewer must know."""
    run = judged(small())
    [[method, path, body]] = comment(tmp_path, dump_results(replace(run, problems=find_problems(run))))
    assert (method, path) == ("POST", "repos/owner/name/issues/4/comments")
    assert body.startswith(f"{MARK}## ❌ invalid\n\n6 benchmarks: 1 improvement, ")
    assert f"[The run]({RUN_URL}) has the whole report." in body
    assert "\n- slower than baseline: `test_redis.py::test_publish_latency`\n" in body
    assert "\n| `test_redis.py::test_publish_latency` | regression | 57.1 µs | 61.7 µs | +8.1 % |\n" in body
    assert "\n| `test_redis.py::test_get[100 B]` | pass, over budget | 57.1 µs | 57.4 µs | +0.5 % |\n" in body
    assert "\n- `test_redis.py::test_publish_latency`: `slower than the baseline in 5 fresh processes`\n" in body
    assert "\n- `test_redis.py::test_get[100 B]`: `budget p95 2.43 ms > 2 ms`\n" in body
    assert "- failed: `test_readiness.py::test_login`: " in body
    assert "@" not in body


def test_comment_shows_only_evidence(tmp_path: Path) -> None:
    """It shows the medians of pairs, and no change that was not judged."""
    paired = {"base_samples_s": [1e-3, 2e-3, 3e-3], "head_samples_s": [4e-3]}
    run = results(
        benchmark("a.py::test_a", "regression", change=1.0, **paired),
        benchmark("a.py::test_b", "inconclusive", change=1.05, change_low=None, change_high=None),
    )
    [[_, _, body]] = comment(tmp_path, dump_results(run))
    assert "\n| `a.py::test_a` | regression | 2 ms | 4 ms | +100 % |\n" in body
    assert "\n| `a.py::test_b` | inconclusive |  | 57.4 µs |  |\n" in body


def test_comment_shows_why_an_application_does_not_start(tmp_path: Path) -> None:
    """It shows the last lines of the application's output."""
    printed = "\n".join(f"  | line {number}" for number in range(20))
    reason = Reason("ended", f"app is not ready\n{printed}\n  | ValueError: none")
    [[_, _, body]] = comment(tmp_path, dump_results(results(verdict="invalid", exit_code=3, reasons=[reason])))
    assert "\n- ended: `app is not ready`\n  - ` line 11`\n" in body
    assert "\n  - ` ValueError: none`\n" in body


def test_comment_is_updated(tmp_path: Path) -> None:
    """An earlier comment of this workflow is replaced, but not one by another author with the same mark."""
    ours = {"id": 5, "user": {"login": "github-actions[bot]"}, "body": f"{MARK}old"}
    [[method, path, body]] = comment(tmp_path, dump_results(results()), comments=[*OTHERS, ours])
    assert (method, path) == ("PATCH", "repos/owner/name/issues/comments/5")
    assert body.startswith(f"{MARK}## ✅ pass\n")


OLD = dump_results(results())


@pytest.mark.parametrize(("found", "pulls"), [(None, OPEN), (OLD, []), (OLD, OPEN[:1])], ids=["none", "closed", "old"])
def test_comment_is_not_made(tmp_path: Path, found: str | None, pulls: object) -> None:
    """There is no comment without results, without a pull request, or if a newer commit was pushed."""
    assert comment(tmp_path, found, pulls) == []


@pytest.mark.parametrize(
    "hostile",
    [
        "@everyone [look](https://evil.example)",
        "[]",
        '{"schema": 1}',
        OLD.replace('"verdict": "pass"', '"verdict": "pass](https://evil.example)"'),
        OLD.replace('"exit_code": 0', '"exit_code": "@everyone"'),
        OLD.replace('"schema": 1', '"schema": 2'),
        dump_results(results(benchmark("a"))).replace('"passed"', '"@everyone"'),
        dump_results(results(benchmark("a", "regression", reasons=["x"]))).replace('"ended"', '"@everyone"'),
        dump_results(results(benchmark("a", budgets=[BudgetResult("p95_ms", 1, 2, kept=False)]))).replace("[{", "[3, {"),
        OLD.replace("{", '{"padding": "' + "x" * 20_000_000 + '",', 1),
        "[" * 100_000,
    ],
    ids=range(11),
)
def test_comment_of_what_are_no_results(tmp_path: Path, hostile: str) -> None:
    """A file that is not a result of Plumbline is not posted."""
    assert comment(tmp_path, hostile) == []


HOSTILE = [
    "@octocat and @org/team",
    "![image](https://evil.example/i.png)",
    "[link](https://evil.example)",
    "https://evil.example www.evil.example",
    "<img src=https://evil.example/i.png><script>",
    "&#64;octocat",
    "` @octocat ``` @octocat ~~~",
    "a\n\n@octocat\r\n# Title\n| @octocat |\u2028@octocat\u0085@octocat",
    "\\` @octocat | @octocat \\",
    "#1 org/name#2 GH-3 " + "a" * 40,
    "\u202e\u200b\x1b[31m\x00",
    "$(touch pwned)`touch pwned`\"';touch pwned;#",
    "\\(env.GH_TOKEN)",
    "",
]


def test_comment_of_a_hostile_fork(tmp_path: Path) -> None:
    """No text of the results has an effect in the comment, and nothing is executed."""
    slow = [
        benchmark(
            f"{text}{number}",
            "regression",
            description=text,
            warnings=[text],
            reasons=[Reason("ended", text, subjects=[text]), Reason("count_grown", counts=[CountGrowth(text, 1, 2)])],
            budgets=[BudgetResult(text, 1, 2, kept=False)],
        )
        for number, text in enumerate(HOSTILE)
    ]
    failed = [TestOutcome(text, "failed", 0.1, f"E   {text}\n{text}") for text in HOSTILE]
    problems = [Problem(one.key, "regression", [], [Cause("function", one.description)], "") for one in slow[::2]]
    reasons = [Reason("not_collected", text, subjects=[text]) for text in HOSTILE]
    run = results(*slow, tests=failed, verdict="regression", exit_code=1, reasons=reasons, problems=problems)
    evil = dump_results(run)
    [[_, _, body]] = comment(tmp_path, evil, branch=HOSTILE[-3])
    rest = without_code(body).removeprefix(MARK).replace(f"[The run]({RUN_URL})", "")
    assert "octocat" in body
    assert not re.search(r"[@<>&`\\#!\[\]()\x00-\x09\x0b-\x1f\u0085\u2028\u202e\u200b]", rest.removeprefix("## ❌"))
    assert not re.search("octocat|evil|://|www|pwned|GH_TOKEN", rest)
    assert "t" not in re.findall(r"`t`", body)
    assert not [*tmp_path.rglob("pwned")]


def test_comment_fits(tmp_path: Path) -> None:
    """Long names are left out whole if there is no room for all."""
    slow = [benchmark(f"{number}{'€µ🐌' * 300}", "regression", reasons=["🐌" * 999]) for number in range(300)]
    evil = dump_results(results(*slow, verdict="regression", exit_code=1, reasons=[one.key for one in slow]))
    [[_, _, body]] = comment(tmp_path, evil)
    assert len(body) <= MOST_CHARACTERS
    assert len(body.encode()) <= MOST_BYTES
    assert body.count("`") % 2 == 0
    assert "Left out here: 250 more." in body


