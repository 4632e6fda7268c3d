"""The comment on GitHub: the steps that take the results and post, and the text for a hostile fork's results."""

import base64
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from markdown_it import MarkdownIt
from msgspec.structs import replace

from plumbline.loading.figures import Figures
from plumbline.loading.results import LoadResults, SideResults, blocks, marked, read_load
from plumbline.loading.verdict import Change, Finding
from plumbline.reporting import github
from plumbline.results.files import ResultsError, decode_results, dump_results
from plumbline.results.schema import BudgetResult, CountGrowth, Kind, Reason, TestOutcome, UnjudgedPackage
from tests.support.pipelines import COMMENT, evaluate, load, substitute
from tests.support.project import Done
from tests.support.report_samples import benchmark, results
from tests.support.runners import run

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
    shutil.copytree(state / "artifact", options["--dir"], symlinks=True)
    sys.exit()
[path] = [word for word in words if word.startswith("repos/")]
method = options.get("--method", "GET")
if method == "GET":
    known = json.loads((state / "known.json").read_text())
    command = ["jq", "--raw-output", options["--jq"]]
    sys.exit(subprocess.run(command, input=json.dumps(known[path]), text=True).returncode)
name, _, file = options["-F"].partition("=@")
with (state / "written.jsonl").open("a") as written:
    written.write(json.dumps([method, path, {{name: pathlib.Path(file).read_text()}}]) + "\\n")
"""
MARK = "<!-- performance report -->\n"
SHA = "a" * 40
RUN_URL = "https://github.com/owner/name/actions/runs/9"
OPEN = [{"number": 3, "head": {"sha": "b" * 40}}, {"number": 4, "head": {"sha": SHA}}]
OTHERS = [
    {"id": 1, "user": {"login": "somebody"}, "body": f"{MARK}quoted"},
    {"id": 2, "user": {"login": "github-actions[bot]"}, "body": "something else"},
]


def step(folder: Path, job: str, name: str, contexts: Mapping[str, Any], **environ: str) -> Done:
    """Run a step of the workflow with a replacement for GitHub's command line."""
    [found] = [one for one in load(COMMENT)["jobs"][job]["steps"] if one.get("name") == name]
    (folder / "bin").mkdir()
    (folder / "bin" / "gh").write_text(GH)
    (folder / "bin" / "gh").chmod(0o755)
    (folder / "work").mkdir()
    (folder / "step.sh").write_text(found["run"])
    own = {name: substitute(value, contexts) for name, value in found["env"].items()}
    environ |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "STATE": str(folder)}
    done = run(["bash", "-e", str(folder / "step.sh")], folder / "work", own | environ)
    assert done.code == 0, done.output
    return done


def post(
    folder: Path, report: str, pulls: object = OPEN, comments: object = OTHERS, branch: str = "change"
) -> list[Any]:
    """Post a report. Return the request that the step sends: method, path and fields."""
    if not shutil.which("jq"):
        pytest.skip("the replacement for GitHub's command line takes jq")
    known = {"repos/owner/name/pulls": pulls, "repos/owner/name/issues/4/comments": comments}
    (folder / "known.json").write_text(json.dumps(known))
    run_of = {"id": 9, "name": "performance", "event": "pull_request", "head_branch": branch, "head_sha": SHA}
    run_of |= {"html_url": RUN_URL, "head_repository": {"owner": {"login": "fork"}}}
    needs = {"render": {"outputs": {"report": base64.b64encode(report.encode()).decode()}}}
    event = {"token": "t", "repository": "owner/name", "event": {"workflow_run": run_of}}
    step(folder, "comment", "Comment", {"github": event, "needs": needs})
    written = folder / "written.jsonl"
    return [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []


# ---- posting


def test_comment_is_made(tmp_path: Path) -> None:
    """The comment is at the open pull request of the measured commit. It ends with who wrote it, and with the run."""
    [[method, path, fields]] = post(tmp_path, "## ✅ Pass\n\n<details>\n</details>\n")
    assert (method, path) == ("POST", "repos/owner/name/issues/4/comments")
    end = f"[The run]({RUN_URL}) has the whole report. The code of this pull request wrote these results."
    assert fields == {"body": f"{MARK}## ✅ Pass\n\n<details>\n</details>\n\n{end}\n"}


def test_comment_is_updated(tmp_path: Path) -> None:
    """An earlier comment of this workflow is replaced, but not one by another author with the same mark."""
    ours = {"id": 5, "user": {"login": "github-actions[bot]"}, "body": f"{MARK}old"}
    [[method, path, fields]] = post(tmp_path, "new", comments=[*OTHERS, ours])
    assert (method, path) == ("PATCH", "repos/owner/name/issues/comments/5")
    assert fields["body"].startswith(f"{MARK}new\n")


@pytest.mark.parametrize("pulls", [[], OPEN[:1]], ids=["closed", "old"])
def test_comment_is_not_made(tmp_path: Path, pulls: object) -> None:
    """There is no comment without a pull request, or if a newer commit was pushed."""
    assert post(tmp_path, "new", pulls) == []


def test_comment_that_is_as_long_as_a_report_can_be(tmp_path: Path) -> None:
    """GitHub accepts it."""
    [[_, _, fields]] = post(tmp_path, "a" * github.COMMENT_BYTES, branch="$(touch pwned)")
    assert len(fields["body"]) <= MOST_CHARACTERS
    assert len(fields["body"].encode()) <= MOST_BYTES
    assert not [*tmp_path.rglob("pwned")]


def test_comment_only_of_pull_requests_with_a_report() -> None:
    """Other runs of the workflow `performance` start no job."""
    jobs = load(COMMENT)["jobs"]
    for event in ("pull_request", "push"):
        contexts = {"github": {"event": {"workflow_run": {"event": event}}}}
        assert evaluate(jobs["render"]["if"], contexts) == (event == "pull_request")
    for report in ("", "IyMgUGFzcw=="):
        assert bool(evaluate(jobs["comment"]["if"], {"needs": {"render": {"outputs": {"report": report}}}})) == (
            report != ""
        )


# ---- what is taken of the artifact


@pytest.mark.parametrize("name", ["results.json", "load.json"])
@pytest.mark.parametrize("kind", ["file", "no artifact", "no file", "link", "folder", "too large"])
def test_only_a_file_of_limited_size_is_taken(tmp_path: Path, kind: str, name: str) -> None:
    """Files of an earlier run that were committed are no results either."""
    results_file = tmp_path / "artifact" / "perf-results" / name
    if kind != "no artifact":
        results_file.parent.mkdir(parents=True)
        (results_file.parent / "report.md").write_text("forged")
    if kind in ("file", "too large"):
        results_file.write_text("{}")
    if kind == "too large":
        os.truncate(results_file, 20_000_001)
    if kind == "link":
        results_file.symlink_to("/etc/hostname")
    if kind == "folder":
        results_file.mkdir()

    step(tmp_path, "render", "Results", {"github": {}}, FOLDER=".", RUNNER_TEMP=str(tmp_path / "temp"))

    taken = sorted(path.name for path in (tmp_path / "work" / "perf-results").iterdir())
    assert taken == ([name] if kind == "file" else [])


OLD = dump_results(results())


@pytest.mark.parametrize(
    "hostile",
    [
        "@everyone [look](https://evil.example)",
        "[]",
        '{"schema": 2}',
        OLD.replace('"verdict": "pass"', '"verdict": "pass](https://evil.example)"'),
        OLD.replace('"exit_code": 0', '"exit_code": "@everyone"'),
        OLD.replace('"schema": 2', '"schema": 3'),
        dump_results(results(benchmark("a"))).replace('"passed"', '"@everyone"'),
        dump_results(results(benchmark("a", "regression", reasons=["x"]))).replace('"ended"', '"@everyone"'),
        dump_results(results(benchmark("a", budgets=[BudgetResult("p95_ms", 1, 2, kept=False)]))).replace("[{", "[3, {"),
        "[" * 100_000,
    ],
    ids=range(10),
)
def test_comment_of_what_are_no_results(hostile: str) -> None:
    """A file that is not a result of Plumbline cannot be read, so there is nothing to post."""
    with pytest.raises(ResultsError):
        decode_results(hostile.encode(), Path("results.json"))


# ---- the text

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = [
    "@octocat and @org/team and a@evil.example",
    "![image](https://evil.example/i.png)",
    "[link](https://evil.example)",
    "https://evil.example HTTP://evil.example www.evil.example WWW.evil.example",
    "<img src=https://evil.example/i.png><script>",
    "&#64;octocat",
    "` @octocat ``` @octocat ~~~",
    "a\n\n@octocat\r\n# Title\n| @octocat |\u2028@octocat\u0085@octocat",
    "\\` @octocat | @octocat \\",
    "#1 org/name#2 GH-3 gh-3 | https://github.com/owner/name/issues/1",
    "\u202e\u200b\x1b[31m\x00",
    "</pre></details><!--",
    f"{MARK}## ✅ Pass",
    "# ✅ Pass",
    "1. @octocat",
    "-----",
    "",
]
TITLES = {"❌ Regression", "❌ Invalid", "❌ Load test: regression", "Failed", "Failed tests", "Notes", "Last 3 runs on CODE"}
TAGS = {f"<{end}{name}>" for name in ("details", "summary", "pre", "code", "br") for end in ("", "/")}


def shown(body: str) -> tuple[list[str], list[str], str]:
    """Return the titles of a comment, the targets of its links and images, and its text outside of code."""
    blocks = PARSER.parse(body)
    parts = [part for block in blocks for part in block.children or []]
    html = [one.content for one in [*blocks, *parts] if one.type in ("html_inline", "html_block")]
    assert {*re.findall("<[^>]*>?", "".join(html))} <= TAGS
    inside = [re.sub("<pre>.*?</pre>", "", text, flags=re.DOTALL) for text in html]
    titles, texts = list[str](), list[str]()
    for block, before in zip(blocks[1:], blocks, strict=False):
        assert block.type not in ("ordered_list_open", "blockquote_open", "hr", "fence", "code_block")
        text = "".join("CODE" if one.type == "code_inline" else one.content for one in block.children or [])
        (titles if before.type == "heading_open" else texts).append(text)
    targets = [str(one.attrs.get("href") or one.attrs.get("src")) for one in parts if one.attrs]
    return titles, targets, "\n".join([*texts, *inside])


@pytest.mark.parametrize("text", HOSTILE)
def test_comment_of_a_hostile_fork(text: str, tmp_path: Path) -> None:
    """No text of the results has an effect in the comment: no markup, mention, link or reference."""
    slow = benchmark(
        f"{text}1",
        "regression",
        description=text,
        operation=text,
        operations=2,
        warnings=[text],
        reasons=[Reason("ended", text, subjects=[text]), Reason("count_grown", counts=[CountGrowth(text, 1, 2)])],
        budgets=[BudgetResult(text, 1, 2, kept=False)],
    )
    skipped, failed = TestOutcome("a", "skipped", 0.1, text), TestOutcome(text, "failed", 0.1, f"E   {text}\n{text}")
    kinds: tuple[Kind, ...] = ("ended", "not_collected", "shard_missing", "no_baseline")
    reasons = [Reason(kind, text, subjects=[text]) for kind in kinds]
    first = results(slow, tests=[skipped, failed], verdict="regression", exit_code=1, reasons=reasons)
    names = {"base": text, "revision": text, "commits": 2, "baseline": text, "baseline_commit": text, "profile": text}
    first = replace(first, **names, notes=[text], service_lines=[text], base_differences=[text])
    first = replace(first, unjudged_packages=[UnjudgedPackage(text, "not_installed", text, text, text, text)])
    first = replace(first, environment=replace(first.environment, dirty=False, branch=text, packages={text: text}))
    shard = replace(first, verdict="invalid", exit_code=3, commits=0, reasons=reasons[2:], benchmarks=[])
    trend = [replace(first, environment=replace(first.environment, branch="main"))] * 3

    known: dict[str, Any] = {"plumbline": text, "created": text, "commit": text, "command": text, "target": text, "base": text}
    stage = Figures(rate_per_s=1, measured_s=1, arrivals=1, sent=1, requests=1, errors=[text])
    tested = LoadResults(
        **known,
        verdict="regression",
        exit_code=1,
        sides=[SideResults("head", [stage, stage], 1)],
        findings=[Finding("regression", text, 1)],
        changes=[Change(text, 1, 1, 1, "regression", 0)],
        notes=[text],
    )
    (tmp_path / "load.json").write_bytes(msgspec.json.encode(tested))
    tested_again = read_load(tmp_path, text)
    assert isinstance(tested_again, LoadResults)
    beside = [(marked(tested_again), blocks(tested_again))]

    for one in (first, shard):
        read = decode_results(dump_results(one).encode(), Path("a"))
        titles, targets, rest = shown(github.markdown(read, runs=trend, beside=beside))
        assert {*titles} <= TITLES
        assert targets == []
        assert not re.search(r"@\w|://|www\.|#\w|GH-\d", rest.replace("&#", ""), re.IGNORECASE), rest
