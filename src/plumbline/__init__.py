"""Performance tests for Python services: measured, counted, compared with the base commit, and judged.

The names in `__all__` are public. All other modules and names may change at any time.
"""

import importlib

TYPE_CHECKING = False  # importing it from typing would take time
if TYPE_CHECKING:
    from plumbline.measuring.loop import Measure, MeasureError, Timer
    from plumbline.measuring.statistics import Summary, slope
    from plumbline.services.address import Address
    from plumbline.services.base import Service
    from plumbline.services.errors import NotReady
    from plumbline.services.services import Services
    from plumbline.settings import Budget

__version__ = "0.2.0"

__all__ = [
    "Address",
    "Budget",
    "Measure",
    "MeasureError",
    "NotReady",
    "Service",
    "Services",
    "Summary",
    "Timer",
    "__version__",
    "slope",
]

_NAMES = {
    "plumbline.measuring.loop": ("Measure", "MeasureError", "Timer"),
    "plumbline.measuring.statistics": ("Summary", "slope"),
    "plumbline.services.address": ("Address",),
    "plumbline.services.base": ("Service",),
    "plumbline.services.errors": ("NotReady",),
    "plumbline.services.services": ("Services",),
    "plumbline.settings": ("Budget",),
}


def __getattr__(name: str) -> object:
    """Import a public name on first use, because the plugin imports this package in every pytest process."""
    module = next((module for module, names in _NAMES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)
