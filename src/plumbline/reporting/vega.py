"""Vega, Vega-Lite and vega-embed as one script, from the wheel of vl-convert."""

import functools
from importlib.metadata import version
from pathlib import Path

import vl_convert

from plumbline.cache import digest, make_once, state_folder

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_NOTICE = "/* Vega, Vega-Lite, vega-embed: University of Washington Interactive Data Lab, BSD 3-Clause License */\n"


@functools.cache
def library() -> str:
    """Return the script, from the cache if there is one: bundling takes two seconds."""
    try:
        made = make_once(state_folder() / "vega", digest(version("vl-convert-python"), _SNIPPET), _write)
        return (made / "vega.js").read_text(encoding="utf-8")
    except OSError:
        return _bundle()


def _write(folder: Path) -> None:
    (folder / "vega.js").write_text(_bundle(), encoding="utf-8")


def _bundle() -> str:
    return _NOTICE + str(vl_convert.javascript_bundle(_SNIPPET))
