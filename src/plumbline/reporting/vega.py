"""Vega, Vega-Lite and vega-embed as one script, as the wheel of vl-convert brings them."""

import functools
from importlib.metadata import version
from pathlib import Path

import filelock
import vl_convert

from plumbline.cache import digest, keep, locked, sweep
from plumbline.services.address import ServiceError
from plumbline.services.service_run import state_folder

_FILE = "vega.js"
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_NOTICE = "/* Vega, Vega-Lite, vega-embed: University of Washington Interactive Data Lab, BSD 3-Clause License */\n"


@functools.cache
def library() -> str:
    """The script; kept, as putting it together takes two seconds."""
    try:
        cache = state_folder() / "vega"
        with locked(cache):
            kept = keep(cache / "scripts", digest(version("vl-convert-python"), _SNIPPET), _write)
            sweep(cache / "scripts")
            return (kept / _FILE).read_text(encoding="utf-8")
    except (OSError, ServiceError, filelock.Timeout):
        return _bundle()


def _write(folder: Path) -> None:
    (folder / _FILE).write_text(_bundle(), encoding="utf-8")


def _bundle() -> str:
    return _NOTICE + str(vl_convert.javascript_bundle(_SNIPPET))
