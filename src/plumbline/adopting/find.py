"""Finds the application of a project, and what it needs, in its files. Nothing of the project is imported or run."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from plumbline.adopting.files.applications import applications
from plumbline.adopting.files.brokers import rabbitmq
from plumbline.adopting.files.commands import prepare
from plumbline.adopting.files.dependencies import dependencies, servers
from plumbline.adopting.files.django import django_settings, settings_variable
from plumbline.adopting.files.health import health_paths
from plumbline.adopting.files.installs import install
from plumbline.adopting.files.piccolo import piccolo_variable
from plumbline.adopting.files.reach import reachable
from plumbline.adopting.files.sql import load_sql, sql_files
from plumbline.adopting.files.sqlite import own_files
from plumbline.adopting.files.stack import stack
from plumbline.adopting.files.starts import Docker, compose_services, dockerfiles, starts
from plumbline.adopting.files.tree import Tree
from plumbline.adopting.files.variables import variables
from plumbline.adopting.files.workers import processes
from plumbline.adopting.findings import Findings, FoundApplication, FoundCommand
from plumbline.processes import without_secrets


def find(root: Path) -> Findings:
    """Return what the files of a project show. `root` is the folder that holds `tests/performance`, or will hold it."""
    tree = Tree(root)
    started, dockers, services = starts(tree), dockerfiles(tree), compose_services(tree)
    apps = applications(tree, started)
    app = apps[0] if apps else None
    directory = app.directory if app else "."
    declared = dependencies(tree, directory)
    used = servers(tree, declared)
    others = stack(services, rabbitmq(tree, declared, services))
    every = {*used, *(one.name for one in others)}
    workers = processes(tree, started, app, every)
    files = _files(tree, app, workers, dockers)
    found = variables(tree, files, services, every, dockers)
    if app and app.framework == "django":
        found = [*settings_variable(tree, app, dockers), *found]
    known = {one.name for one in found}
    found += [one for one in piccolo_variable(tree, directory) if one.name not in known]
    migrations = prepare(tree, started, app)
    sql = sql_files(tree, services, postgres="postgres" in used) if not migrations else ([], "")
    sqlite = next(iter(own_files(one.template for one in found)), "")
    migrations += load_sql(sql, postgres="postgres" in used, sqlite=sqlite)
    parts = set(re.findall(r"\{redis\.(\w+)\}", " ".join(one.template for one in found)))
    findings = Findings(
        applications=tuple(apps),
        install=install(tree, directory, declared, dockers, files if app else ()),
        prepare=tuple(migrations),
        sql=tuple(sql[0]),
        processes=tuple(workers),
        variables=tuple(found),
        services=used,
        health_paths=health_paths(tree, sorted(files), directory, dockers, services),
        stack=others,
        redis_password="host" not in parts or "password" in parts,
        redis_database="host" not in parts or "database" in parts,
    )
    return _without_secrets(findings)


def _files(
    tree: Tree, app: FoundApplication | None, workers: Iterable[FoundCommand], dockers: Iterable[Docker]
) -> set[str]:
    """Return the modules of the application: those that it, its workers and its migrations import."""
    if app is None:
        return {file for file, module in tree.modules.items() if not module.is_aside}
    names = [(app.target.partition(":")[0], app.directory)]
    for worker in workers:
        for word in worker.command[1:]:
            name = word.partition(":")[0]
            names += [(one, worker.directory) for one in (name, name.rpartition(".")[0])]
    seeds = [file for name, folder in names if name and (file := tree.module_at(name, folder))]
    hidden: set[str] = set()
    if app.framework == "django":
        chosen, _, others = django_settings(tree, app, dockers)
        hidden = {tree.module_at(name, app.directory) for name in others}
        seeds += [tree.module_at(chosen, app.directory)] if chosen else []
    else:
        seeds += [file for file in tree.named(r"env\.py", above=False) if "alembic" in tree.text(file)]
    found = reachable(tree, seeds, app.directory, hidden)
    package = PurePosixPath(seeds[0]).parts[0] if seeds else ""
    if len(found) < 2 and package:  # it is put together in a way that imports do not show
        found |= {file for file in tree.modules if file.startswith(f"{package}/") or package.endswith(".py")}
    return found


def _without_secrets(findings: Findings) -> Findings:
    """Shorten URLs in what was seen: they may hold passwords."""

    def clean(value: object, name: str = "") -> object:
        if isinstance(value, str):
            return without_secrets(value) if name in ("seen", "services") else value
        if isinstance(value, tuple):
            return tuple(clean(one, name) for one in value)
        if isinstance(value, dict):
            return {key: clean(one, name) for key, one in value.items()}
        if isinstance(value, msgspec.Struct):
            changes = {field: clean(getattr(value, field), field) for field in value.__struct_fields__}
            return msgspec.structs.replace(value, **changes)
        return value

    cleaned = clean(findings)
    assert isinstance(cleaned, Findings)
    return cleaned
