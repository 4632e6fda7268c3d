"""`python -m scripts.adopt`: what it converts, what it leaves to a person, and that the result runs."""

import errno
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from scripts.adopt import convert, main
from tests.performance.harness.settings import load_settings

from .project import ROOT, Project

PAGE = (ROOT / "docs" / "migrating-from-pytest-benchmark.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

SUITE = '''\
"""Benchmarks of a small library."""

from __future__ import annotations

import asyncio
import json
import pprint  # only what is left uses it
from functools import partial
from typing import TYPE_CHECKING

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.benchmark(group="all", min_rounds=5), pytest.mark.filterwarnings("error")]

WORDS = ["plumb", "line"] * 500


def make_words() -> list[str]:
    return list(WORDS)


@pytest.fixture
def words() -> Iterator[list[str]]:
    yield make_words()


async def fetch(delay: float = 0) -> str:
    await asyncio.sleep(delay)
    return "ä"


# Strings


@pytest.mark.parametrize("separator", [" ", "-"])
def test_join(benchmark: BenchmarkFixture, words: list[str], separator: str) -> None:
    """Join words."""
    text: str = benchmark(separator.join, words)  # kept
    assert text.startswith("plumb")


def test_made_once(benchmark: BenchmarkFixture) -> None:
    assert benchmark(json.dumps, make_words(), indent=2) == json.dumps(WORDS, indent=2)


def test_partial(benchmark: BenchmarkFixture) -> None:
    benchmark(partial(sorted, reverse=True), WORDS)


class TestInAClass:
    size = 300

    @benchmark_mark
    def test_decorated(self, benchmark: BenchmarkFixture) -> None:
        @benchmark
        def total():
            numbers = range(self.size)
            return sum(numbers)

        assert total == 44850

    def test_left(self, benchmark: BenchmarkFixture) -> None:
        benchmark(pprint.pformat, WORDS)
        assert benchmark.stats["mean"] < 1


class TestLeft:
    """Not one of these can be converted."""

    def test_in_loop(self, benchmark: BenchmarkFixture) -> None:
        for word in WORDS:
            benchmark(word.upper)


def test_coroutine(benchmark: BenchmarkFixture) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    first = loop.run_until_complete(fetch())

    def run():
        return loop.run_until_complete(fetch())

    try:
        assert benchmark(run) == first
    finally:
        loop.close()


def test_asyncio_run(benchmark: BenchmarkFixture) -> None:
    result = benchmark(asyncio.run, fetch(0))
    assert result == "ä"


def test_pedantic(benchmark: BenchmarkFixture) -> None:
    words = []

    def refill():
        words[:] = WORDS

    def clear(which):
        assert not which

    benchmark.pedantic(words.clear, setup=refill, rounds=10, warmup_rounds=2)


def test_not_a_benchmark() -> None:
    assert WORDS


if __name__ == "__main__":
    test_join(lambda f, *args: f(*args), WORDS, " ")
'''.replace("benchmark_mark", 'pytest.mark.benchmark(group="sums")')

CONVERTED = '''\
"""Benchmarks of a small library."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.performance.harness.measure import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.filterwarnings('error')]

WORDS = ["plumb", "line"] * 500


def make_words() -> list[str]:
    return list(WORDS)


@pytest.fixture
def words() -> Iterator[list[str]]:
    yield make_words()


async def fetch(delay: float = 0) -> str:
    await asyncio.sleep(delay)
    return "ä"


# Strings


@pytest.mark.parametrize("separator", [" ", "-"])
def test_join(measure: Measure, words: list[str], separator: str) -> None:
    """Join words."""
    for timer in measure():
        with timer:
            text: str = separator.join(words)  # kept
    assert text.startswith("plumb")


def test_made_once(measure: Measure) -> None:
    argument = make_words()
    for timer in measure():
        with timer:
            result = json.dumps(argument, indent=2)
    assert result == json.dumps(WORDS, indent=2)


def test_partial(measure: Measure) -> None:
    for timer in measure():
        with timer:
            sorted(WORDS, reverse=True)


class TestInAClass:
    size = 300

    def test_decorated(self, measure: Measure) -> None:
        def run_total():
            numbers = range(self.size)
            return sum(numbers)

        for timer in measure():
            with timer:
                total = run_total()

        assert total == 44850


async def test_coroutine(measure: Measure) -> None:
    first = await fetch()

    try:
        async for timer in measure():
            with timer:
                result = await fetch()
        assert result == first
    finally:
        pass


async def test_asyncio_run(measure: Measure) -> None:
    async for timer in measure():
        with timer:
            result = await fetch(0)
    assert result == "ä"


def test_pedantic(measure: Measure) -> None:
    words = []

    def refill():
        words[:] = WORDS

    def clear(which):
        assert not which

    for timer in measure(samples=10, warmup=2):
        refill()
        with timer:
            words.clear()
'''


def body(text: str) -> str:
    """What becomes of a test of that body; it must be converted."""
    done = convert(f"def test_it(benchmark):\n{textwrap.indent(textwrap.dedent(text), '    ')}")
    assert done.left == []
    return textwrap.dedent(done.text.partition("\n")[2])


def why(text: str) -> str:
    """Why a module with one test is left."""
    done = convert(textwrap.dedent(text))
    assert done.tests == 0
    [(_line, _name, reason)] = done.left
    return reason


def test_a_suite_is_converted() -> None:
    """Imports, fixtures, markers, helpers and comments stay; the plugin's own and what only the rest needs go."""
    done = convert(SUITE)

    assert done.text == CONVERTED
    assert done.left == [
        (66, "test_left", "uses benchmark.stats"),
        (74, "test_in_loop", "calls benchmark in a loop"),
    ]
    assert done.lost == {"group": 2, "min_rounds": 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("benchmark(f, *args, key=1, **kwargs)", "f(*args, key=1, **kwargs)"),
        ("benchmark(lambda: f(1) + 2)", "f(1) + 2"),
        ("x, y = benchmark(f)", "x, y = f()"),
        ("benchmark.pedantic(f, (1, a), {'key': b}, rounds=2)", "f(1, a, key=b)"),
        ("benchmark.pedantic(f, args=a, kwargs=b, rounds=3, iterations=1)", "f(*a, **b)"),
        ("benchmark.group = 'x'\nbenchmark(f)", "f()"),
        ("@benchmark\ndef _():\n    f(1)", "f(1)"),
        ("@benchmark\ndef value():\n    return f(1)\nassert value", "value = f(1)"),
        ("benchmark(f).close()", "result = f()\nresult.close()"),
        ("benchmark(f)[0]", "result = f()\nresult[0]"),
    ],
)
def test_calls(before: str, after: str) -> None:
    """The timed line alone differs."""
    text = body(before)

    assert text.startswith(f"for timer in measure():\n    with timer:\n        {after}\n"), text


@pytest.mark.parametrize(
    ("before", "before_loop", "call"),
    [
        ("benchmark(f, [1, 2])", "argument = [1, 2]", "f(argument)"),
        ("benchmark(f, key=make())", "key = make()", "f(key=key)"),
        ("benchmark(f, a.b.size, a.size)", "size = a.b.size\nsize_2 = a.size", "f(size, size_2)"),
        ("benchmark(a.b.f)", "f = a.b.f", "f()"),
        ("benchmark(lambda n: n, 1)", "function = lambda n: n", "function(1)"),
        ("argument = 1\nbenchmark(f, make(argument))", "argument = 1\nargument_2 = make(argument)", "f(argument_2)"),
    ],
)
def test_what_is_made_once_stays_outside(before: str, before_loop: str, call: str) -> None:
    """pytest-benchmark evaluates its arguments once; names that the test has are spared."""
    assert body(before) == f"{before_loop}\nfor timer in measure():\n    with timer:\n        {call}\n"


@pytest.mark.parametrize("before", ["x = make()\nx = benchmark(f, x)", "x = make()\nx = benchmark(lambda: f(x))"])
def test_no_round_reads_what_the_last_one_made(before: str) -> None:
    """A variable that the call reads is bound again only after the loop."""
    loop = "for timer in measure():\n    with timer:\n        result = f(x)\n"

    assert body(before) == f"x = make()\n{loop}x = result\n"


def test_lines_and_strings_keep_their_form() -> None:
    """Arguments over several lines move along, unless a string in them would change."""
    text = body('benchmark(\n    f,\n    make(\n        1,\n    ),\n)\nreturn """\n  x"""')

    assert text.startswith("argument = make(\n    1,\n)\nfor timer")
    assert body('benchmark(f, ["""\n  x""", 1])').startswith('argument = ["""\n')
    assert "        (a\n" in body("benchmark(\n    lambda: a\n    + b\n)")


def test_comments_stay_with_their_lines() -> None:
    """Those behind the last line of a decorated function as well."""
    text = body("@benchmark\ndef run():\n    a = 1\n    f(a)  # quick\nassert 1")

    assert text.startswith("def run():\n    a = 1\n    f(a)  # quick\n\nfor timer in")


def test_extra_information_becomes_a_property() -> None:
    """pytest's own fixture is asked for, once, and told in the same place."""
    text = "    benchmark.extra_info[key('a')] = (1,\n        2)\n    benchmark(f)\n    benchmark.extra_info['b'] = 2\n"
    told = "    record_property(key('a'), (1,\n        2))\n", "    record_property('b', 2)\n"
    loop = "    for timer in measure():\n        with timer:\n            f()\n"

    done = convert(f"def test_it(benchmark):\n{text}")
    assert done.text == f"def test_it(measure, record_property):\n{told[0]}{loop}{told[1]}"
    done = convert(f"def test_it(record_property, benchmark):\n{text}")
    assert done.text.startswith("def test_it(record_property, measure):\n")


def test_a_timer_of_its_own_is_spared() -> None:
    """The loop takes another name."""
    assert "for timer_2 in measure():\n    with timer_2:\n" in body("timer = 1\nbenchmark(f, timer)")


@pytest.mark.parametrize(
    ("before", "made", "call"),
    [
        (
            "def s():\n    return ([2, 1],), {}\nbenchmark.pedantic(f, setup=s)",
            "args, kwargs = s()",
            "f(*args, **kwargs)",
        ),
        ("benchmark.pedantic(f, setup=lambda: ((a,), {}))", "args, kwargs = ((a,), {})", "f(*args, **kwargs)"),
        ("benchmark.pedantic(f, setup=s)", "args, kwargs = s() or ((), {})", "f(*args, **kwargs)"),
        ("benchmark.pedantic(f, setup=lambda: s(1))", "args, kwargs = s(1) or ((), {})", "f(*args, **kwargs)"),
        ("args = 1\nbenchmark.pedantic(f, setup=s)", "args_2, kwargs = s() or ((), {})", "f(*args_2, **kwargs)"),
        (
            "def s():\n    if a:\n        return (1,), {}\nbenchmark.pedantic(f, setup=s)",
            "args, kwargs = s() or ((), {})",
            "f(*args, **kwargs)",
        ),
        ("benchmark.pedantic(f, args=(1,), setup=s)", "s()", "f(1)"),
        ("def s():\n    g()\nbenchmark.pedantic(f, setup=s)", "s()", "f()"),
    ],
)
def test_setup_is_called_in_each_round(before: str, made: str, call: str) -> None:
    """Outside of the timed block; it makes the arguments where it may return some and none are given."""
    text = body(before)

    assert text.endswith(f"for timer in measure():\n    {made}\n    with timer:\n        {call}\n"), text


def test_imports_of_the_plugin_go() -> None:
    """However they are guarded; where the fixture was annotated and `Measure` is free, it is imported."""
    body = "def test_it(benchmark: BenchmarkFixture):\n    benchmark(f)\n"
    after = "def test_it(measure: Measure):\n    for timer in measure():\n        with timer:\n            f()\n"
    guarded = """\
        if TYPE_CHECKING:
            from pytest_codspeed import BenchmarkFixture
        else:
            BenchmarkFixture = pytest.importorskip("pytest_codspeed").BenchmarkFixture


        """
    imported = "from tests.performance.harness.measure import Measure\n\n\n"

    assert convert(body).text == imported + after
    assert convert(textwrap.dedent(guarded) + body).text == imported + after
    assert convert(f'"""Text."""\nimport pytest_benchmark\n{body}').text.startswith(f'"""Text."""\n\n{imported[:-2]}')
    assert convert(f"class Measure: ...\n{body}").text.startswith("class Measure: ...\ndef test_it(measure):")


def test_a_marker_that_it_can_t_take_away_is_told() -> None:
    """pytest would refuse it without the plugin."""
    done = convert("quick = pytest.mark.benchmark\n@quick\ndef test_it(benchmark):\n    benchmark(f)\n")

    assert list(done.lost) == ["pytest.mark.benchmark, which it still names"]


def test_hooks_of_the_plugin_are_told() -> None:
    """pytest would refuse them without it."""
    done = convert("def pytest_benchmark_update_machine_info(config, machine_info): ...\n")

    assert done.hooks == [(1, "pytest_benchmark_update_machine_info")]
    assert (done.tests, done.left) == (0, [])


def test_a_loop_of_its_own_goes() -> None:
    """With all that makes, sets, unsets and closes it."""
    text = """\
        def test_it(benchmark):
            # A loop of our own
            loop = asyncio.events.new_event_loop()
            asyncio.events.set_event_loop(loop)
            def run():
                coroutine = fetch()
                return loop.run_until_complete(
                    coroutine
                )

            try:
                value = benchmark(run)
            finally:
                asyncio.set_event_loop(None)
                loop.close()
        """
    after = """\
        async def test_it(measure):
            async def run():
                coroutine = fetch()
                return await coroutine

            try:
                async for timer in measure():
                    with timer:
                        value = await run()
            finally:
                pass
        """

    assert convert(textwrap.dedent(text)).text == textwrap.dedent(after)


def test_lines_of_a_coroutine_move_along() -> None:
    """Out of the function and the call that ran it."""
    text = "def run():\n    return asyncio.run(\n        fetch(\n            1,\n        )\n    )\nbenchmark(run)"
    after = "async for timer in measure():\n    with timer:\n        await fetch(\n            1,\n        )\n"

    assert body(text) == after


def test_a_loop_that_is_a_fixture() -> None:
    """It is no longer asked for, where parameters are all that is left."""
    done = convert(
        textwrap.dedent(
            """\
            import asyncio

            @pytest.mark.parametrize("n", [1])
            def test_it(benchmark, event_loop, n):
                @benchmark
                def _run():
                    event_loop.run_until_complete(asyncio.sleep(n))
            """
        )
    )

    assert "async def test_it(measure, n):\n    async for timer in measure():" in done.text
    assert "            await asyncio.sleep(n)\n" in done.text


def test_a_loop_that_is_the_last_fixture() -> None:
    """It is no longer asked for either."""
    done = convert("def test_it(benchmark, loop):\n    benchmark(lambda: loop.run_until_complete(f()))\n")

    assert done.text.startswith("async def test_it(measure):\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("benchmark(lambda: LOOP.run_until_complete(f()))", "runs the loop `LOOP`, which isn't made in the test"),
        ("benchmark(lambda: asyncio.run(f(), debug=True))", "gives asyncio.run more than a coroutine"),
        ("benchmark(lambda: list(map(asyncio.run, x)))", "uses asyncio.run in a way that `await` can't replace"),
        ("def run():\n    asyncio.run(f())\nbenchmark(run)\nmap(run, x)", "uses run, which runs a loop, for more"),
    ],
)
def test_a_loop_that_can_t_be_taken_away(text: str, reason: str) -> None:
    """The test goes on running it itself, and is named."""
    done = convert(f"def test_it(benchmark):\n{textwrap.indent(text, '    ')}\n")

    assert "def test_it(measure):\n" in done.text
    assert "async" not in done.text.replace("asyncio", "")
    [(line, name, told)] = done.kept_loops
    assert (line, name) == (1, "test_it")
    assert told.startswith(reason)


def test_what_runs_a_loop_is_awaited_everywhere() -> None:
    """A helper that is called beside the timed call as well."""
    text = body("def run():\n    return asyncio.run(f()) + 1\nassert run()\nbenchmark(run)")

    assert text.startswith("async def run():\n    return (await f()) + 1\nassert (await run())\nasync for timer in")
    assert "        await run()\n" in text


def test_a_loop_that_fixtures_may_belong_to() -> None:
    """The test goes on running it itself, and is named."""
    done = convert("def test_it(benchmark, loop, web):\n    benchmark(lambda: loop.run_until_complete(web.get()))\n")

    assert (
        "    for timer in measure():\n        with timer:\n            loop.run_until_complete(web.get())" in done.text
    )
    assert done.kept_loops == [(1, "test_it", "runs the fixture `loop`, and web may belong to that loop")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def test_it(benchmark): pass", "never calls benchmark"),
        ("def test_it(benchmark):\n  benchmark(f)\n  benchmark(g)", "calls benchmark 2 times: one measurement a test"),
        ("def test_it(benchmark):\n  while True:\n    benchmark(f)", "calls benchmark in a loop"),
        ("def test_it(benchmark):\n  [benchmark(f) for _ in x]", "calls benchmark in a loop"),
        ("def test_it(benchmark):\n  helper(1, benchmark)", "hands benchmark to helper()"),
        ("def test_it(benchmark):\n  helper(b=benchmark)", "hands benchmark to helper()"),
        ("def test_it(benchmark):\n  def run():\n    benchmark(f)\n  run()", "calls benchmark inside run"),
        ("def test_it(benchmark):\n  x = benchmark", "uses benchmark as a value"),
        ("def test_it(benchmark):\n  benchmark.extra_info = a\n  benchmark(f)", "uses benchmark.extra_info"),
        ("def test_it(benchmark):\n  benchmark.extra_info['a'] += 1\n  benchmark(f)", "uses benchmark.extra_info"),
        (
            "def test_it(benchmark):\n  def run():\n    benchmark.extra_info['a'] = 1\n  benchmark(run)",
            "sets benchmark.extra_info inside another function",
        ),
        ("def test_it(benchmark):\n  benchmark.weave(f)\n  f()", "uses benchmark.weave"),
        ("def test_it(benchmark):\n  with pytest.raises(E):\n    benchmark(f)", "expects the call to raise"),
        ("def test_it(benchmark):\n  if benchmark(f): pass", "calls benchmark inside a larger statement"),
        ("def test_it(benchmark):\n  assert x() == benchmark(f)", "calls benchmark inside a larger statement"),
        ("def test_it(benchmark): benchmark(f)", "calls benchmark beside other code in its line"),
        ("def test_it(benchmark):\n  x = (benchmark(f))", "can't be written as valid Python"),
        ("def test_it(benchmark, measure):\n  benchmark(f)", "has a `measure` of its own"),
        ("async def f(): ...\ndef test_it(benchmark):\n  benchmark(f)", "times the making of a coroutine"),
        ("def test_it(benchmark):\n  @benchmark\n  def run(n): f(n)", "decorates a function that wants arguments"),
        ("def test_it(benchmark):\n  benchmark.pedantic(f)", "is called once (rounds=1)"),
        ("def test_it(benchmark):\n  benchmark.pedantic(f, teardown=g, rounds=9)", "has a teardown"),
        (
            "def test_it(benchmark, loop):\n  benchmark(loop.run_until_complete, f(loop))",
            "uses the loop `loop` for more",
        ),
        ("class TestIt:\n  def test_it(self):\n    self.benchmark(f)", "doesn't take benchmark as an argument"),
        ("def test_it(benchmark):\n  benchmark()", "doesn't name the function that it times"),
        ("def test_it(benchmark):\n  @benchmark\n  async def run(): await f()", "times the making of a coroutine"),
        ("def test_it(benchmark):\n  benchmark.pedantic(**options)", "calls pedantic with arguments that can't be"),
        ("def test_it(benchmark):\n  benchmark(asyncio.run, f)", "runs a coroutine that isn't made in the call"),
        ("def bench_it(benchmark):\n  benchmark(f)", "takes benchmark and isn't called test_…"),
        ("@pytest.mark.benchmark\ndef test_it():\n  f()", "has the marker and not the fixture"),
        (
            "@pytest.fixture\ndef quick(benchmark): ...\ndef test_it(benchmark, quick):\n  benchmark(f)",
            "needs quick, which takes benchmark",
        ),
        (
            "@pytest.fixture\ndef quick(benchmark):\n  return lambda f: benchmark(f)\ndef test_it(quick):\n  quick(f)",
            "needs quick, which takes benchmark",
        ),
    ],
)
def test_what_is_left_to_a_person(text: str, reason: str) -> None:
    """Each with its reason."""
    assert why(text).startswith(reason)


def test_the_command_writes_beside_and_never_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names what it wrote and left; a second run finds its own files and spares them."""
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "test_words.py").write_text(SUITE, encoding="utf-8")
    (folder / "broken.py").write_text("def test_a(benchmark:\n", encoding="utf-8")
    (folder / "deep.py").write_text(f"benchmark = {'+'.join('1' * 9999)}\n", encoding="utf-8")
    (folder / "conftest.py").write_text("def pytest_benchmark_group_stats(): ...\n", encoding="utf-8")
    (folder / "newer_and_no_suite.py").write_text("def other(:\n", encoding="utf-8")
    (folder / "binary.py").write_bytes(b"\xff\xfe\x00")

    assert main([str(folder)]) == 0
    told = capsys.readouterr().out
    written = folder / "test_words_benchmarks.py"
    assert written.read_text(encoding="utf-8") == CONVERTED
    assert f"{written}: 7 of 9 benchmarks" in told
    assert "without group (2 times)" in told
    assert f"{folder / 'test_words.py'}:66: left: test_left uses benchmark.stats" in told
    assert f"{folder / 'broken.py'}: left: it can't be read" in told
    assert f"{folder / 'binary.py'}: left: it can't be read" in told
    assert f"{folder / 'deep.py'}: left: it can't be read" in told
    assert f"{folder / 'conftest.py'}:1: delete pytest_benchmark_group_stats" in told
    assert "newer_and_no_suite" not in told
    assert told.endswith("7 of 9 benchmarks converted (78%)\n")

    written.write_text("# mine\n", encoding="utf-8")
    assert main([str(folder)]) == 2
    assert "test_words_benchmarks.py is there already, and is not overwritten" in capsys.readouterr().out
    assert written.read_text(encoding="utf-8") == "# mine\n"


def test_names_that_can_t_be_written_or_shown(tmp_path: Path) -> None:
    """The rest is converted all the same."""
    text = "def test_it(benchmark):\n    benchmark(f)\n"
    folder = tmp_path / "with späces"
    folder.mkdir()
    (folder / f"test_{'a' * 247}.py").write_text(text, encoding="utf-8")
    (folder / "test_żółw.py").write_text(text, encoding="utf-8")

    command = [sys.executable, "-m", "scripts.adopt", str(folder)]
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr == ""
    assert f"_benchmarks.py can't be written: {os.strerror(errno.ENAMETOOLONG)}" in done.stdout
    assert done.stdout.endswith("1 of 2 benchmarks converted (50%)\n")
    assert (folder / "test_żółw_benchmarks.py").is_file()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing", "there is no such file"),
        (".", "no test there that can be read uses"),
        ("test_plain.py", "no test there uses"),
    ],
)
def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, told: str) -> None:
    """No such path, or no benchmark there."""
    (tmp_path / "test_plain.py").write_text("def test_it():\n    pass\n", encoding="utf-8")
    (tmp_path / "broken.py").write_text("def test_it(benchmark:\n", encoding="utf-8")

    assert main([str(tmp_path / name)]) == 2
    assert told in capsys.readouterr().err


def test_the_page_shows_what_is_written() -> None:
    """Each block named "before" becomes the next one."""
    assert len(BLOCKS) == 6
    for before, after in zip(BLOCKS[::2], BLOCKS[1::2], strict=True):
        done = convert(before)
        assert done.text == after
        assert done.left == []


def test_the_page_s_limits_are_settings(tmp_path: Path) -> None:
    """They can be read, and name benchmarks of the page."""
    [text] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")

    settings = load_settings(path, {})

    for key in [*settings.budgets, *settings.benchmarks]:
        assert f"def {key.partition('::')[2]}(measure" in PAGE


def test_what_is_written_runs(tmp_path: Path) -> None:
    """The suite above and the page's, measured by the harness."""
    project = Project.create(tmp_path / "project", tmp_path / "none")
    (project.suite / "test_suite.py").unlink()
    project.write("test_words.py", SUITE)
    for number, before in enumerate(BLOCKS[::2]):
        project.write(f"test_page_{number}.py", before)

    done = project.own_python("-m", "scripts.adopt", "tests/performance")
    assert done.code == 0, done.output
    for path in project.suite.glob("test_*.py"):
        if not path.stem.endswith("_benchmarks"):
            path.unlink()
    output = project.root / "perf-results" / "results.json"
    done = project.own_python("-m", "pytest", "tests/performance", f"--perf-output={output}")

    assert done.code == 0, done.output
    assert "14 passed" in done.output
    keys = {benchmark["key"] for benchmark in project.results()["benchmarks"]}
    assert "test_words_benchmarks.py::TestInAClass::test_decorated" in keys
    assert "test_page_1_benchmarks.py::test_hand_over" in keys
    assert len(keys) == 14
