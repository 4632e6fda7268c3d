"""Variables of the shell that configure the tools that Plumbline starts: they change what is measured, or break it."""

import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

# The names that a command has hidden from its children, for the notice in their report.
HIDDEN = "PERF_HIDDEN"
# Servers read each of their options from a variable, too.
SERVERS = r"(UVICORN|HYPERCORN|GRANIAN)_\w+|GUNICORN_CMD_ARGS|WEB_CONCURRENCY|FLASK_(RUN_\w+|DEBUG)"
PYTHON = (
    r"PYTHON(OPTIMIZE|SAFEPATH|INSPECT|DEVMODE|ASYNCIODEBUG|MALLOC(STATS)?|TRACEMALLOC|PROFILEIMPORTTIME|WARNINGS"
    r"|VERBOSE|DEBUG|DUMPREFS\w*|PERFSUPPORT|_PERF_JIT_SUPPORT|IOENCODING)"
)
PYTEST = r"PYTEST_(ADDOPTS|PLUGINS|DISABLE_PLUGIN_AUTOLOAD|DEBUG|TIMEOUT|XDIST_AUTO_NUM_WORKERS)"
OTHERS = r"COVERAGE_(PROCESS_\w+|RUN|CORE)|COV_CORE_\w+|MALLOC_(CHECK_|PERTURB_|TRACE)"
INSTALLERS = r"PIP_(USER|PYTHON|TARGET|PREFIX|ROOT|DRY_RUN|NO_DEPS|REQUIRE_HASHES)|UV_REQUIRE_HASHES"
MIN_COLUMNS = 20
FOR_SERVERS = re.compile(SERVERS)
DISTURBING = re.compile("|".join([SERVERS, PYTHON, PYTEST, OTHERS, INSTALLERS]))


def disturbing(environ: Mapping[str, str], names: re.Pattern[str] = DISTURBING) -> list[str]:
    """Return the names of variables that are set and match."""
    return sorted(name for name, value in environ.items() if value and names.fullmatch(name))


def leave_behind(environ: MutableMapping[str, str] = os.environ) -> None:
    """Start this very command again without the disturbing variables, if there are any: Python has read them already.

    Those who want one of them in their application set it in `[env]` of settings.toml.
    """
    found = disturbing(environ)
    # Only a virtual environment finds its own home without it.
    if environ.get("PYTHONHOME") and Path(sys.executable).parents[1].joinpath("pyvenv.cfg").is_file():
        found.append("PYTHONHOME")
    columns = environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) < MIN_COLUMNS:  # as of a terminal without a size: reports would be empty
        found.append("COLUMNS")
    if _is_closed(environ.get("HOME", "")):
        found.append("HOME")
    if found:
        for name in found:
            del environ[name]
        environ[HIDDEN] = " ".join(found)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(environ))  # noqa: S606


def _is_closed(home: str) -> bool:
    """Return whether this is a folder that this user may not enter, as after `su` from root: clients look for files."""
    try:
        os.stat(f"{home}/.")  # noqa: PTH116
    except PermissionError:
        return True
    except OSError:
        pass
    return False
