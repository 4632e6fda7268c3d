"""Made-up rows for empty lists: what `init` proposes if they help."""

from msgspec.structs import replace

from plumbline.adopting.findings import Findings, FoundCommand
from plumbline.adopting.proposal import SEED
from plumbline.adopting.trial import TARGET, target_of
from plumbline.adopting.tried import Answer, Tried
from plumbline.seed import LEFT_EMPTY, MODULE
from plumbline.settings import AppSettings, Settings

COMMAND = ("python", "-m", MODULE)
SEEN = "a route answers with an empty list: this command writes made-up rows"


def empty_lists(tried: Tried) -> list[str]:
    """Return the routes that answer with an empty list, such as "GET /orders"."""
    return sorted(name for name, one in _answers(tried).items() if one.is_success and one.has_empty_list)


def has_seed(settings: Settings) -> bool:
    """Return whether `prepare` writes made-up rows."""
    return any(MODULE in command for command in settings.prepare_commands)


def with_seed(findings: Findings, app: AppSettings | None) -> Findings:
    """Return the findings with the command that writes made-up rows.

    Without migrations, the application makes the tables: the command starts it.
    """
    if "postgres" not in findings.services or SEED in {one.name for one in findings.prepare}:
        return findings
    words: tuple[str, ...] = COMMAND
    if not findings.prepare:
        target = target_of(app) if app else ""
        if not TARGET.fullmatch(target):
            return findings
        words += ("--start", target + "()" * (app is not None and app.factory and not target.endswith("()")))
    return replace(findings, prepare=(*findings.prepare, FoundCommand(SEED, words, SEEN)))


def why_no_seed(before: Tried, after: Tried) -> list[str]:
    """Return why made-up rows do not help, by the results without and with them; [] if they do."""
    tried = f"{MODULE} was tried and is left out"
    if after.failed:
        lines = after.message.splitlines()
        own = [line[line.index(f"{MODULE}: ") :].removeprefix(f"{MODULE}: ") for line in lines if f"{MODULE}: " in line]
        return [f"{tried}: {one}" for one in [*own, *lines][:1]]
    answers = _answers(after)
    broken = [name for name, one in _answers(before).items() if one.is_success and not _succeeds(answers.get(name))]
    for name in broken[:1]:
        said = f"{answers[name].status or 'no answer'}: {answers[name].error}" if name in answers else "not asked"
        return [f"{tried}: with its rows, {name} does not answer 2xx: {said.rstrip(': ')}"]
    if {*empty_lists(before)} <= {*empty_lists(after)}:
        return [f"{tried}: with its rows, the same routes answer with an empty list"]
    return []


def about_empty_tables(tried: Tried) -> list[str]:
    """Return the tables that the command has left empty, with the reasons."""
    return [f"{MODULE} leaves a table empty: {line.replace(LEFT_EMPTY, '')}" for line in tried.left_empty]


def _succeeds(one: Answer | None) -> bool:
    return one is not None and one.is_success


def _answers(tried: Tried) -> dict[str, Answer]:
    return {f"{one.route.method} {one.route.path}": one for one in (*tried.answers, *tried.logged_in)}
