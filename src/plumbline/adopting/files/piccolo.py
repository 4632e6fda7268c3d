"""The migrations of the Piccolo ORM, and the variable that names its settings."""

from plumbline.adopting.files.imports import module_name
from plumbline.adopting.files.tree import Tree
from plumbline.adopting.findings import FoundCommand, FoundVariable

CONF = "piccolo_conf"


def piccolo_migrations(tree: Tree, directory: str) -> FoundCommand | None:
    """Return the command that applies the migrations, None if there are none. `directory`: where imports start."""
    files = tree.named(rf"{CONF}\.py", above=False)
    if not files or not any("piccolo.apps.migrations" in module.text for module in tree.modules.values()):
        return None
    return FoundCommand("piccolo", ("piccolo", "migrations", "forwards", "all"), f"{files[0]}:1: {CONF}.py", directory)


def piccolo_variable(tree: Tree, directory: str) -> list[FoundVariable]:
    """Return the variable that names the module of the settings, if Piccolo would not find this module by itself."""
    files = [
        file for file in tree.named(rf"{CONF}\.py", above=False) if directory == "." or file.startswith(f"{directory}/")
    ]
    names = [module_name(file, directory) for file in files]
    return (
        []
        if not names or CONF in names
        else [FoundVariable("PICCOLO_CONF", names[0], False, f"{files[0]}:1: {CONF}.py")]
    )
