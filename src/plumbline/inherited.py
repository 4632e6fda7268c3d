"""Environment variables of the shell that would change or break what Plumbline measures."""

import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

# Environment variable: the names of the hidden variables, for the report.
HIDDEN = "PERF_HIDDEN"
# HTTP servers read their options from variables.
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
    """Return the names of the variables that are set and match."""
    return sorted(name for name, value in environ.items() if value and names.fullmatch(name))


def leave_behind(environ: MutableMapping[str, str] = os.environ) -> None:
    """Restart this command without the disturbing variables, if any are set: Python has read them already.

    To set one of them for the application, use `[env]` of settings.toml.
    """
    found = disturbing(environ)
    # Only a virtual environment works without PYTHONHOME.
    if environ.get("PYTHONHOME") and Path(sys.executable).parents[1].joinpath("pyvenv.cfg").is_file():
        found.append("PYTHONHOME")
    columns = environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) < MIN_COLUMNS:  # a terminal without a size: reports would be empty
        found.append("COLUMNS")
    if _is_closed(environ.get("HOME", "")):
        found.append("HOME")
    if found:
        for name in found:
            del environ[name]
        environ[HIDDEN] = " ".join(found)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(environ))  # noqa: S606


def _is_closed(home: str) -> bool:
    """Return whether this user may not enter the folder, as after `su`. Clients look for files in HOME."""
    try:
        os.stat(f"{home}/.")  # noqa: PTH116
    except PermissionError:
        return True
    except OSError:
        pass
    return False
