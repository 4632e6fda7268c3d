"""Django's settings module: the one that the application uses, which manage.py must use too."""

import re

from plumbline.adopting.files.tree import Tree
from plumbline.adopting.findings import FoundApplication, FoundVariable

SETTINGS = re.compile(r"DJANGO_SETTINGS_MODULE[\"']?\s*[,\]=)]+\s*[\"']([\w.]+)[\"']")
VARIABLE = "DJANGO_SETTINGS_MODULE"


def django_settings(tree: Tree, app: FoundApplication) -> tuple[str, set[str]]:
    """Return the settings module that the application names, and those that other modules name."""
    own = tree.module_at(app.target.partition(":")[0], app.directory)
    chosen = SETTINGS.search(tree.text(own))
    others = {name for module in tree.modules.values() for name in SETTINGS.findall(module.text)}
    first = chosen[1] if chosen else min(others, default="")
    return first, others - {first}


def settings_variable(tree: Tree, app: FoundApplication) -> list[FoundVariable]:
    """Return DJANGO_SETTINGS_MODULE if manage.py or a worker would use other settings than the application."""
    chosen, others = django_settings(tree, app)
    own = tree.module_at(app.target.partition(":")[0], app.directory)
    if not chosen or not others:
        return []
    line = next((number for number, text in enumerate(tree.lines(own), 1) if VARIABLE in text), 1)
    return [FoundVariable(VARIABLE, chosen, False, f"{own}:{line}: {VARIABLE}")]
