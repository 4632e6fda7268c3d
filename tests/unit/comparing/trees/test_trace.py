import os
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.comparing.trees.affected import EVERY, open_traces, other_programs
from plumbline.comparing.trees.at_start.sitecustomize import CALL, STAGES, TRACE, WATCHED
from plumbline.comparing.trees.trace import AT_START, Stages, child_environ, mark_unread, read_since
from tests.support.project import ROOT
from tests.unit.comparing.trees.helpers import reads

OWN = 'print("of my own")\n'


PROGRAM = """\
import os, sqlite3, subprocess, sys
import imported
os.chdir(os.path.dirname(imported.__file__))
open("data.txt").close()
sqlite3.connect("data.db").close()
os.close(os.open("by_os.txt", os.O_RDONLY))
subprocess.run([sys.executable, "-c", "open('by_child.txt')"], check=True)
os.stat("not_opened.txt")
open("appended.log", "a").close()
open("updated.db", "r+").close()
"""


WRITTEN = ("appended.log", "updated.db")


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("compiled", [False, True], ids=["first", "compiled"])
def test_a_trace_has_what_a_process_and_its_children_open(tmp_path: Path, traces: Path, compiled: bool) -> None:
    """Modules, also compiled ones, and data by relative paths. The user's own sitecustomize runs, too."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in (
        "imported.py",
        "data.txt",
        "data.db",
        "by_os.txt",
        "by_child.txt",
        "not_opened.txt",
        "nobody.py",
        *WRITTEN,
    ):
        (tree / name).write_text("")
    (tree / "program.py").write_text(PROGRAM)
    (tree / "sitecustomize.py").write_text(OWN)
    path = os.pathsep.join([str(AT_START), str(tree)])
    environ = {**os.environ, "PYTHONPATH": path, TRACE: str(traces / "tests"), "PYTHONDONTWRITEBYTECODE": ""}
    for _ in range(2 if compiled else 1):
        (traces / "tests").unlink(missing_ok=True)
        done = subprocess.run([sys.executable, tree / "program.py"], env=environ, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "of my own\n" * 2  # the child's, too
    read = {name: reads(["tests"], traces, {tree / name}) for name in sorted(path.name for path in tree.iterdir())}
    del read["__pycache__"]
    assert read == {
        "appended.log": False,
        "by_child.txt": True,
        "by_os.txt": True,
        "data.db": True,
        "data.txt": True,
        "imported.py": True,
        "nobody.py": False,
        "not_opened.txt": False,
        "program.py": True,
        "sitecustomize.py": True,
        "updated.db": True,
    }


@pytest.mark.parametrize(
    ("program", "traced"),
    [("python3", True), ("by_python", True), ("by_shell", False), ("binary", False), ("not_there", False)],
)
def test_a_program_that_python_does_not_run_writes_no_trace(
    tmp_path: Path, traces: Path, program: str, traced: bool
) -> None:
    """Its children write none either. Python runs a console script."""
    begins = {"by_python": b"#!/usr/bin/python3\n", "by_shell": b"#!/bin/sh\n", "binary": b"\x7fELF\xff"}
    for name, begin in begins.items():
        (tmp_path / name).write_bytes(begin)
        (tmp_path / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {"PATH": path, TRACE: str(traces / "tests")}
    expected = {"PATH": path, **({TRACE: str(traces / "worker")} if traced else {})}
    assert child_environ("worker", [program, "-m", "worker"], environ) == expected
    assert other_programs(traces / "worker")  # nothing has run yet, so there is no trace of Python either
    assert child_environ("worker", [program], {"PATH": path}) == {"PATH": path}


SCRIPTS = [
    ("cd tree && python read.py && python -c ''", True),
    ("set -e\npython tree/read.py\n", True),
    ("rm -f a.sqlite; echo tree/read.py", True),
    ("rm -f a.sqlite; python tree/read.py | python -c ''", True),
    ("cat tree/read.py", False),
    ("python -I tree/read.py", False),
    ("PYTHONPATH= python tree/read.py", False),
    ("python tree/*.py", False),
    ("python < tree/read.py", False),
    ("python $(ls tree/*.py)", False),
    ("(cat tree/read.py)", False),
    ("echo 'no end", False),
]


@pytest.mark.parametrize(
    ("command", "script", "is_precise"),
    [
        *((["sh", "-c"], *one) for one in SCRIPTS),
        (["bash", "-e", "prepare.sh"], *SCRIPTS[0]),
        (["./prepare.sh"], *SCRIPTS[1]),
        (["bash", "prepare.sh"], *SCRIPTS[3]),
        (["bash", "prepare.sh", "argument"], SCRIPTS[0][0], False),
    ],
)
def test_a_simple_shell_script_is_as_precise_as_its_commands(
    tmp_path: Path, traces: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], script: str, is_precise: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "prepare.sh"
    file.write_text(f"#!/usr/bin/env bash\n# Makes tables.\n\n{script}\n")
    file.chmod(0o755)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "read.py").write_text("")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {"PATH": path, "PYTHONPATH": str(AT_START), TRACE: str(traces / "tests")}
    command = [*command, script] if "-c" in command else command
    subprocess.run(command, env=child_environ("prepare", command, environ), cwd=tmp_path, capture_output=True)
    assert reads(["prepare"], traces, {tmp_path / "tree" / "read.py"}) is not script.startswith("rm -f a.sqlite; echo")
    assert reads(["prepare"], traces, {tmp_path / "nobody.py"}) is not is_precise
    assert other_programs(traces / "prepare") == ([] if is_precise else [Path(command[0]).name])
    assert reads(["prepare"], traces, {file}) is (not is_precise or command[1:2] != ["-c"])

    # A later command that is known does not hide one that is not.
    subprocess.run(["python", "-c", ""], env=child_environ("prepare", ["python", "-c", ""], environ))
    assert reads(["prepare"], traces, {tmp_path / "nobody.py"}) is not is_precise


@pytest.mark.parametrize(
    ("run", "known"),
    [
        ("subprocess.run([sys.executable, '-c', ''])", True),
        ("subprocess.run(['sh', '-c', ''])", False),
        ("os.system('true')", False),
        ("subprocess.run(['uname', '-m'])", True),
        ("subprocess.run(['/bin/uname', '-m'])", False),  # could be a file of the project
        ("subprocess.run([sys.executable, '-c', ''], env={})", False),
        ("subprocess.run([sys.executable, '-c', ''], env={**os.environ, 'MORE': '1'})", True),
        ("subprocess.run([sys.executable, '-c', ''], env={**os.environ, 'PYTHONPATH': ''})", False),
        ("subprocess.run([sys.executable, '-uI', '-c', ''])", False),
        ("subprocess.run([sys.executable, '-E', '-c', ''])", False),
        ("subprocess.run([sys.executable, '-S', '-m', 'plumbline.services.reaper'], input=b'')", True),
        ("subprocess.run([sys.executable, '-Wignore', '-c', '', '-S'])", True),
        ("os.execv('/bin/sh', ['sh', '-c', ''])", False),
        ("__import__('platform').architecture()", True),
    ],
)
def test_a_program_of_another_language_affects_all(tmp_path: Path, traces: Path, run: str, known: bool) -> None:
    environ = {**os.environ, "PYTHONPATH": str(AT_START), TRACE: str(traces / "tests")}
    subprocess.run([sys.executable, "-c", f"import os, subprocess, sys; {run}"], env=environ, check=True)
    assert reads(["tests"], traces, {tmp_path / "nobody.py"}) is not known


CALLED = """\
import asyncio


class Thing:
    def method(self):
        return [one for one in (lambda: [1])()]


async def coroutine():
    await asyncio.sleep(0)
    nested()


def nested():
    def inner():
        pass

    inner()


def in_thread(): pass
def in_child(): pass
def unchanged(): pass
def never(): pass
"""


CALLING = """\
import asyncio, os, runpy, subprocess, sys, threading
import package
from called import *
from plumbline.comparing.trees.trace import Stages

stages = Stages(os.environ)
if "early" in sys.argv:
    package.work()
if "as a program" in sys.argv:
    runpy.run_module("package", run_name="__main__")
if "otherwise" in sys.argv:
    runpy.run_path("called.py")
stages.begin("first", ["a"])
unchanged()
Thing().method()
stages.begin("first", ["b"])
asyncio.run(coroutine())
with stages.fixture(["c", "d"]):
    package.work()
thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
subprocess.run([sys.executable, "-c", "import called; called.in_child()"], check=True)
"""


PACKAGE = """\
def work(): pass

class Made:
    work()

work()
"""


FUNCTIONS = {"Thing.method", "coroutine", "nested", "in_thread", "in_child", "never"}


@pytest.mark.parametrize("argument", ["", "early", "otherwise", "as a program"])
def test_a_trace_has_the_calls_of_changed_functions_by_stage(tmp_path: Path, argument: str) -> None:
    """Calls of changed functions, and of a whole package except during its own import."""
    (tmp_path / "package").mkdir()
    for name, text in (
        ("package/__init__.py", PACKAGE),
        ("package/__main__.py", "from package import work\n\nwork()\n"),
        ("called.py", CALLED),
        ("program.py", CALLING),
    ):
        (tmp_path / name).write_text(text)
    traces = tmp_path / "traces"
    open_traces(traces, {tmp_path / "package": EVERY, tmp_path / "called.py": FUNCTIONS, tmp_path / "program.py": None})
    path = os.pathsep.join([str(AT_START), str(ROOT), str(tmp_path)])
    environ = {**os.environ, "PYTHONPATH": path, TRACE: str(traces / "tests")}
    command = [sys.executable, "program.py", argument]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    lines = [line.replace(f"{tmp_path}{os.sep}", "") for line in (traces / "tests").read_text().splitlines()]
    expected = ["1 Thing.method called.py", "2 coroutine called.py", "2 nested called.py", "3 * package"]
    expected += ["2 in_thread called.py", "2 in_child called.py"]
    calls = [line.removeprefix(CALL).split(" ", 2) for line in lines if line.startswith(CALL)]
    early = ["0 * package"] if argument in ("early", "as a program") else []
    assert [f"{number} {called}" for number, _, called in calls] == early + expected
    processes = [process for _, process, _ in calls]
    assert len({*processes}) == 2, "the child is another one"
    assert {*processes[:-1]} == {processes[0]}
    assert ("called.py" in lines) is (argument == "otherwise")
    assert {f"{WATCHED}called.py", f"{WATCHED}package/__init__.py"} <= set(lines)
    assert (traces / STAGES).read_text().splitlines() == ['["first", "a"]', '["first", "b"]', '["fixture", "c", "d"]']


FILE, DATA, PURE = Path("/tree/file.py"), Path("/tree/data.csv"), Path("/site/pure")


def test_no_calls_are_recorded_if_other_things_differ(tmp_path: Path) -> None:
    open_traces(tmp_path / "traces", {FILE: None})
    stages = Stages({TRACE: str(tmp_path / "traces" / "tests")})
    assert not stages.recorded
    stages.begin("first", ["a"])
    assert not list((tmp_path / "traces").iterdir())


def test_a_module_in_machine_code_is_read(traces: Path) -> None:
    """The kernel loads it."""
    environ = {**os.environ, "PYTHONPATH": str(AT_START), TRACE: str(traces / "tests")}
    code = "import msgspec._core as module; print(module.__file__)"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert not done.stdout.strip().endswith(".py")
    assert reads(["tests"], traces, {Path(done.stdout.strip())})


LOOKING = """\
import glob, os, pathlib
os.path.exists("flag")
pathlib.Path("there").exists()
pathlib.Path("gone").is_dir()
glob.glob("listed/*")
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("flag", True),
        ("there", False),
        ("gone/file.txt", True),
        ("listed/new.txt", True),
        ("listed/new/deep.txt", True),
        ("listed/old.txt", False),
        ("other/new.txt", False),
    ],
)
def test_a_trace_has_what_a_process_looks_for_and_does_not_find(
    tmp_path: Path, traces: Path, path: str, found: bool
) -> None:
    """The other side may have the file, or one more file in a listed folder."""
    tree = tmp_path / "tree"
    (tree / "listed").mkdir(parents=True)
    for name in ("there", "listed/old.txt"):
        (tree / name).touch()
    environ = {**os.environ, "PYTHONPATH": str(AT_START), TRACE: str(traces / "tests")}
    subprocess.run([sys.executable, "-c", LOOKING], env=environ, check=True, cwd=tree)
    assert reads(["tests"], traces, {tree / path}) is found


def test_a_file_that_no_python_opens_is_seen_to_be_read(tmp_path: Path) -> None:
    """Its access time shows it. Modules are seen at import."""
    files = [tmp_path / name for name in ("read.pem", "unread.pem", "module.py")]
    for file in files:
        file.write_text("1")
    marked = mark_unread([*files, tmp_path / "not_there"])
    assert [*marked] == files[:2]
    if os.statvfs(tmp_path).f_flag & os.ST_NOATIME:
        pytest.skip("this file system keeps no times of access")
    subprocess.run(["cat", files[0], files[2]], check=True)
    assert read_since(marked) == files[:1]
