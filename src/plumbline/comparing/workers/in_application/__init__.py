"""Hook that slows down or profiles the processes of the application."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from plumbline.comparing.workers.in_application.sitecustomize import FOLDER, MODE


def with_hook(environ: Mapping[str, str], mode: Literal["profiled", "slowed"], folder: str) -> dict[str, str]:
    """Return an environment for the application. `folder`: for files that its processes share with the worker."""
    path = filter(None, [str(Path(__file__).parent), environ.get("PYTHONPATH")])
    return {**environ, MODE: mode, FOLDER: folder, "PYTHONPATH": os.pathsep.join(path)}
