"""Imports the application once, in its own environment, and writes what it finds to a file.

Arguments: the file to write, the root of the project, the folder that imports start from, the application as
`module:attribute` or as a `manage.py`, whether that is a factory ("1"), and the seconds that this may take. Plumbline
may not be installed in this environment.
"""

import importlib
import json
import os
import re
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

OURS = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "services" / "at_start")]
sys.path[:0] = OURS
SETTINGS_MODULE = re.compile(r"""DJANGO_SETTINGS_MODULE["'],\s*["']([\w.]+)""")
routes: Any = importlib.import_module("plumbline_look_routes")
settings: Any = importlib.import_module("plumbline_look_settings")
reads: Any = importlib.import_module("plumbline_reads")

sys.path[:] = [folder for folder in sys.path if folder not in OURS]


class Look:
    """The findings so far, in a file."""

    def __init__(self, file: str, root: str) -> None:
        self._file = file
        self._root = root
        self._lock = threading.Lock()
        self.found: dict[str, Any] = {"error": "", "missing": [], "documents": [], "routes": [], "hangs": ""}

    def end(self) -> None:
        """Write what was found, and end without waiting for threads of the application."""
        with self._lock:
            self.found["settings"] = settings.read_by(self._root)
            Path(self._file).write_text(json.dumps(self.found, default=str), encoding="utf-8")
            sys.stdout.flush()
            os._exit(0)

    def give_up(self) -> None:
        """Note the line at which the import is, and end."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and not reads.is_own(frame.f_code.co_filename, [self._root]):
            frame = frame.f_back
        self.found["hangs"] = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "an unknown line"
        self.end()


def load(target: str, *, is_factory: bool) -> Any:
    """Return the application. The attribute may be a call without arguments, as gunicorn allows."""
    if target.endswith("manage.py"):
        return load_django(Path(target))
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    path = path or "application"
    for name in path.removesuffix("()").split("."):
        found = getattr(found, name)
    return found() if is_factory or path.endswith("()") else found


def load_django(manage: Path) -> Any:
    """Return the application of the settings that a `manage.py` names."""
    if found := SETTINGS_MODULE.search(manage.read_text(encoding="utf-8")):
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", found[1])
    sys.path.insert(0, str(manage.parent.resolve()))
    return importlib.import_module("django.core.wsgi").get_wsgi_application()


def main() -> None:
    file, root, folder, target, is_factory, limit_s = sys.argv[1:]
    sys.argv = sys.argv[:1]
    sys.path.insert(0, str(Path(root, folder)))
    look = Look(file, root)
    timer = threading.Timer(float(limit_s), look.give_up)
    timer.daemon = True
    timer.start()
    settings.note_instances()
    try:
        application = load(target, is_factory=is_factory == "1")
    except BaseException as error:
        look.found["error"] = f"{type(error).__name__}: {error}"
        look.found["missing"] = settings.missing_in(error)
        traceback.print_exc()
        look.end()
    try:
        look.found["documents"], look.found["routes"] = routes.routes_of(application)
    except Exception:
        traceback.print_exc()
    timer.cancel()
    look.end()


if __name__ == "__main__":
    main()
