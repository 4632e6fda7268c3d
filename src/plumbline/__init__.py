"""Performance tests for Python services: measured, counted, compared with the base commit, and judged.

Only what is named here is public.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumbline.measuring.loop import Measure, MeasureError, Timer
    from plumbline.services import NotReady, Service, Services
    from plumbline.settings import Budget

__version__ = "0.2.0"

__all__ = ["Budget", "Measure", "MeasureError", "NotReady", "Service", "Services", "Timer", "__version__"]

_MODULES = {
    "Budget": "plumbline.settings",
    "Measure": "plumbline.measuring.loop",
    "MeasureError": "plumbline.measuring.loop",
    "NotReady": "plumbline.services",
    "Service": "plumbline.services",
    "Services": "plumbline.services",
    "Timer": "plumbline.measuring.loop",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import plumbline` loads next to nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
