"""Recognise pytest processes whose timings mean nothing."""

import sys

import pytest


def why_untimed(config: pytest.Config) -> str:
    """Return why timings are meaningless in this process, such as "under coverage", or ""."""
    if hasattr(config, "workerinput") or getattr(config.option, "numprocesses", None):
        return "under pytest-xdist (-n)"
    if config.getoption("usepdb", default=False) or config.getoption("trace", default=False):
        return "with a debugger (--pdb, --trace)"
    coverage = sys.modules.get("coverage")
    if config.pluginmanager.hasplugin("_cov") or (coverage and coverage.Coverage.current() is not None):
        return "under coverage"
    if sys.gettrace() is not None:
        return "under a debugger or tracer"
    return ""
