"""Django's settings module, which the application, manage.py and the workers must share."""

import re
from collections.abc import Iterable

from plumbline.adopting.files.starts import Docker
from plumbline.adopting.files.tree import Tree
from plumbline.adopting.findings import FoundApplication, FoundVariable

SETTINGS = re.compile(r"DJANGO_SETTINGS_MODULE[\"']?\s*[,\]=)]+\s*[\"']([\w.]+)[\"']")
VARIABLE = "DJANGO_SETTINGS_MODULE"


def django_settings(tree: Tree, app: FoundApplication, dockers: Iterable[Docker]) -> tuple[str, str, set[str]]:
    """Return the settings module of production, where it is named, and other modules that code names.

    A Dockerfile counts before the module of the application.
    """
    own = tree.module_at(app.target.partition(":")[0], app.directory)
    line = next((number for number, text in enumerate(tree.lines(own), 1) if VARIABLE in text), 1)
    named = [(docker.variables.get(VARIABLE, ""), docker.file) for docker in dockers]
    named += [(name, f"{own}:{line}") for name in SETTINGS.findall(tree.text(own))]
    others = {name for module in tree.modules.values() for name in SETTINGS.findall(module.text)}
    named += [(name, "manage.py") for name in sorted(others)]
    exists = [(name, seen) for name, seen in named if name and tree.module_at(name, app.directory)]
    chosen, seen = exists[0] if exists else ("", "")
    return chosen, f"{seen}: {VARIABLE}", others - {chosen}


def settings_variable(tree: Tree, app: FoundApplication, dockers: Iterable[Docker]) -> list[FoundVariable]:
    """Return DJANGO_SETTINGS_MODULE if manage.py, the application or a worker would use others."""
    chosen, seen, others = django_settings(tree, app, dockers)
    return [FoundVariable(VARIABLE, chosen, False, seen)] if chosen and others else []
