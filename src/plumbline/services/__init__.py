"""Redis, PostgreSQL and the code under test: chosen, started, waited for, and removed without a trace.

`Services` is the entrance. The names here are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumbline.services.address import Address
    from plumbline.services.base import Service
    from plumbline.services.errors import NotReady, ServiceError
    from plumbline.services.services import Services

__all__ = ["Address", "NotReady", "Service", "ServiceError", "Services"]

_MODULES = {"Address": "address", "NotReady": "errors", "Service": "base", "ServiceError": "errors"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'services')}"), name)
