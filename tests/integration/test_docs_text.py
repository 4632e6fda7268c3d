"""The text of the documentation is true: messages, figures, verdicts, paths, links and versions are the code's."""

import ast
import functools
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import plumbline
from plumbline.cli import COMMANDS
from plumbline.comparing.statistics.inference import judge_pairs
from plumbline.judging.evidence import LATER_MISSES, Thresholds
from plumbline.reporting import exports
from plumbline.reporting.content import reason_text
from plumbline.reporting.reasons import pages
from plumbline.results.schema import Reason, Verdict
from plumbline.settings import OVERRIDES, URL_VARIABLES, GateSettings, address_variable
from tests.support.documentation import BLOCKS, DOCS, PAGES, Block, name_of, prose, quoted
from tests.support.project import ROOT, sessions


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_sessions_and_scripts_in_the_text_exist(page: Path) -> None:
    """`nox -s NAME` and `python -m scripts.NAME` outside of blocks as well."""
    for name in re.findall(r"nox -s (\w+)", prose(page)):
        assert name in sessions(), name
    for name in re.findall(r"scripts\.(\w+)", prose(page)):
        assert (ROOT / "scripts" / f"{name}.py").exists(), name


PATH = re.compile(r"(?:src|tests|docs|scripts|template|\.github|\.gitlab)/[\w./-]*")
# Folders that a user's repository has, or a copy of the template.
OF_USERS = {"tests/benchmarks", "src/shop", "src/my_service", "tests/performance/vendor", "tests/performance/baselines"}
OF_USERS |= {".github/workflows/performance-services-shop.yml", "tests/performance/locustfile.py"}


@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) != "CHANGELOG.md"], ids=name_of)
def test_paths_in_the_text_exist(page: Path) -> None:
    """In this repository; the changelog also names files of earlier versions."""
    for path in [span.rstrip("/") for span in quoted(prose(page).replace("\n", " ")) if PATH.fullmatch(span)]:
        of_a_benchmark = path in {block.file for block in BLOCKS}
        exists = (ROOT / path).exists() or (ROOT / "template" / path).exists()
        assert exists or path in OF_USERS or of_a_benchmark, path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_extras_in_the_text_exist(page: Path) -> None:
    """The package has each extra that a page names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {name for some in re.findall(r"extras? ((?:`\w+`(?:, | and )?)+)", prose(page)) for name in quoted(some)}

    assert named <= set(project["optional-dependencies"])


@functools.cache
def texts_of_the_code() -> list[str]:
    """Each string of the package, with … in place of what is filled in."""
    files = (ROOT / "src").rglob("*.py")
    return [text for file in files for text in texts_in(ast.parse(file.read_text(encoding="utf-8")))]


def texts_in(tree: ast.AST) -> Iterator[str]:
    for one in ast.walk(tree):
        if isinstance(one, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in one.values)
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


LINES = [block for block in BLOCKS if block.language == "text" and block.text.count("\n") == 1]


@pytest.mark.parametrize("block", LINES, ids=str)
def test_a_line_of_output_is_the_codes_own(block: Block) -> None:
    """A line of output on a page is what a message of the code becomes."""
    telling = [text.strip().split("…") for text in texts_of_the_code() if len(text.replace("…", "")) > 20]
    patterns = [".+".join(map(re.escape, parts)) for parts in telling]

    assert any(re.fullmatch(pattern, block.text.strip()) for pattern in patterns)


def test_commands_in_messages_exist() -> None:
    """Each command and session that a message names exists."""
    for text in texts_of_the_code():
        assert set(re.findall(r"`(?:python -m )?plumbline ([a-z]+)", text)) <= set(COMMANDS), text
        assert set(re.findall(r"(?:nox|…) -s ([a-z]+)", text)) <= set(sessions()), text


TROUBLESHOOTING = DOCS / "how-to" / "troubleshooting.md"


def messages() -> list[str]:
    """The headings of the page on troubleshooting, and what else it quotes that is neither a command nor a setting."""
    page = prose(TROUBLESHOOTING)
    found = [message for line in page.splitlines() if line.startswith("### ") for message in quoted(line)]
    texts = re.sub("^### .*", "", page, flags=re.MULTILINE).replace("\n", " ")
    return found + [text for text in quoted(texts) if re.match(r"(?!nox |plumbline )\w+ \w+ \w+", text)]


@pytest.mark.parametrize("message", messages())
def test_message_is_the_codes_own(message: str) -> None:
    """Each message that the page on troubleshooting lists is one that the code can print."""
    pattern = re.compile(".*".join(map(re.escape, filter(None, re.split(r"\s*…\s*", message)))), re.DOTALL)

    assert any(pattern.search(text) for text in texts_of_the_code())


def table(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    _, _, below = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    lines = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert lines
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].splitlines()[2:]]


@pytest.mark.parametrize(("said", "code"), table(TROUBLESHOOTING, "A reason in a report"))
def test_each_reason_can_be_explained(said: str, code: Any) -> None:
    """`plumbline explain` knows the code, and the words beside it are those of this reason."""
    [code], [said] = quoted(code), quoted(said)
    words = [part for part in re.split(r"\s*…\s*", said) if part]

    assert code in pages()
    assert all(part in reason_text(Reason(code)) for part in words)


def test_example_of_a_paired_comparison() -> None:
    """One benchmark fails after its fourth pair, and not before. The other one passes after its second pair."""
    rows = table(DOCS / "explanation" / "paired-comparison.md", "The idea")
    thresholds = Thresholds.of(GateSettings(), None).with_shares(1, LATER_MISSES).of_fastest()
    verdicts = []
    for column in (1, 2):
        texts = [row[column] for row in rows if row[column]]
        pairs = [math.log1p(float(text.split()[0]) / 100 * (-1 if "faster" in text else 1)) for text in texts]
        counts = range(2, len(pairs) + 1)
        judged = [judge_pairs(pairs[:count], [0.003] * count, thresholds, usual=1, sharing=5) for count in counts]
        verdicts.append([one.verdict for one in judged])

    assert verdicts == [["inconclusive", "inconclusive", "regression"], ["pass"]]


@pytest.mark.parametrize("folder", ["src", "scripts", "tests", "template"])
def test_docstrings_begin_with_an_imperative_or_a_noun(folder: str) -> None:
    """No docstring begins with a question word, or with "Tells"."""
    for file in (ROOT / folder).rglob("*.py*"):
        if file.suffix in {".py", ".jinja"}:
            text = file.read_text(encoding="utf-8")
            assert not re.findall(r'^ *"""(?:What\w*|How|Whe\w+|Which|Who|Why|Tells?)\b.*', text, re.MULTILINE), file


def test_verdicts() -> None:
    """The table has each verdict that there is, and no other."""
    verdicts = [quoted(row[0])[0] for row in table(DOCS / "reference" / "verdicts.md", "Verdicts of a benchmark")]

    assert sorted(verdicts) == sorted(get_args(Verdict))


def test_variables() -> None:
    """The table has each variable that a user may set, and no other."""
    rows = table(DOCS / "reference" / "variables.md", "Variables that Plumbline reads")

    assert {quoted(row[0])[0] for row in rows} == {
        *OVERRIDES,
        *URL_VARIABLES.values(),
        address_variable("name"),
        "PERF_BASE",
    }


def test_export_formats() -> None:
    """The table has each format of `plumbline report`, and no other."""
    rows = table(DOCS / "reference" / "files.md", "Exports")

    assert {quoted(row[0])[0] for row in rows} == {"llm", "otava", *exports.FORMATS}


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links(page: Path) -> None:
    """Each linked file in the repository exists, with its heading. Sphinx checks the headings of pages in docs/."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            assert target.startswith("https://"), target
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file) if file else page
        assert path.exists(), target
        assert not anchor or page.is_relative_to(DOCS) or anchor in anchors(path), target


def test_version() -> None:
    """The package's version is the one that the changelog begins with."""
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert headings[0] == plumbline.__version__
    assert len(set(headings)) == len(headings)


def test_pre_commit_hooks() -> None:
    """One version of ruff, and sessions that exist."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = {hook["id"]: hook for repository in config["repos"] for hook in repository["hooks"]}

    assert list(hooks) == ["ruff", "ruff-format", "mypy"]
    assert hooks["ruff"]["additional_dependencies"] == hooks["ruff-format"]["additional_dependencies"]
    assert hooks["mypy"]["entry"].split()[:3] == ["uvx", "nox", "-s"]
    assert hooks["mypy"]["entry"].split()[3] in sessions()


def test_inputs_and_outputs_of_the_action() -> None:
    """The page on GitHub lists those of action.yml, with their defaults."""
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    page = (DOCS / "how-to" / "github.md").read_text(encoding="utf-8")
    inputs, outputs, _ = re.split(r"\| (?:output|session) \|", page.partition("| input |")[2])
    defaults = {
        name: default.strip("`") for name, default in re.findall(r"^\| `([\w-]+)` \| (\S+) \|", inputs, re.MULTILINE)
    }
    assert defaults == {name: one["default"] or "none" for name, one in action["inputs"].items()}
    assert set(re.findall(r"^\| `([\w-]+)` \|", outputs, re.MULTILINE)) == action["outputs"].keys()
