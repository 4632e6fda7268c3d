"""Servers that `plumbline init` can't start, and workers without a broker."""

from plumbline.adopting.files.stack import lines_of, product_of
from plumbline.adopting.findings import Findings, FoundService
from plumbline.adopting.proposal import named_in, served_by
from plumbline.project import SUITE_SETTINGS, nox_command
from plumbline.services.docker_engine import Engine
from plumbline.services.errors import Unavailable
from plumbline.settings import Settings


def why_no_containers(findings: Findings) -> str:
    """Return why the servers that variables name can't be started, and what to do; "" if they can.

    This pulls images that are missing.
    """
    named = _named_by_variables(findings)
    engine = Engine()
    try:
        for one in findings.stack:
            if one.name in named:
                engine.require_image(one.image)
    except Unavailable as error:
        return f"{error}: {error.advice.partition(', or set PERF_SERVICES')[0]}"
    finally:
        engine.close()
    return ""


def left_out(findings: Findings, settings: Settings) -> list[str]:
    """Return what to do about each server and worker that is not started."""
    served = served_by(findings, settings.env)
    own = {product_of(one.image) for one in settings.services.values()}
    lines = []
    for one in findings.stack:
        if one.name not in served and one.name not in own:
            lines += _about(one, findings)
    for worker in findings.processes:
        is_alone = worker.needs not in served and worker.name not in settings.processes
        if is_alone and worker.needs not in {one.name for one in findings.stack}:
            lines.append(f"  no worker of {worker.name} is started ({worker.seen}): no broker was found that it uses")
            lines.append(f"      if it needs one, add [processes.{worker.name}] to {SUITE_SETTINGS} by hand")
    return lines


def _about(one: FoundService, findings: Findings) -> list[str]:
    workers = " and ".join(f"the worker of {each.name}" for each in findings.processes if each.needs == one.name)
    also = f", and neither is {workers}" if workers else ""
    first, again = f"  {one.name} is not started{also} ({one.seen})", f"run `{nox_command()} -s init` again"
    if findings.no_docker and one.name in _named_by_variables(findings):
        return [f"{first}: it needs Docker, but {findings.no_docker}, and {again}"]
    lines = f"add these lines to {SUITE_SETTINGS}, and {{{one.name}.host}} and {{{one.name}.port}} to [env]"
    then = f", and {again}" if workers else ""
    return [f"{first}. If the application needs it, {lines}{then}:", *(f"      {line}" for line in lines_of(one))]


def _named_by_variables(findings: Findings) -> set[str]:
    return named_in([one.template for one in findings.variables], findings)
