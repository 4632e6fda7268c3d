"""Passwords, hidden in each text that leaves a run, in whatever spelling. Nothing decides by a text that was here.

A password is hidden wherever it stands if it has at least LEAST_CHARACTERS characters and is no name: of its user, its
database or host, of a service, or one of the words below. Any other password is hidden in URLs alone: a report in which
each "app" or "postgres" is gone cannot be read, and whoever reads it knows the password.
"""

import base64
import functools
import html.entities
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO
from urllib.parse import parse_qsl, unquote

from plumbline.processes import OUTPUT_ENDED, drop_output
from plumbline.settings import Settings

LEAST_CHARACTERS = 6
LEAST_PART = 4  # of a password that pytest has cut
MOST_SPELT = 64  # first characters of a long token; the rest is whatever follows
HIDDEN = "***"
NAMES = {
    *("postgres", "postgresql", "redis", "valkey", "docker", "embedded", "external", "shared"),
    *("process", "password", "database", "default", "public"),
}
SECRET_OPTION = re.compile("passw|pwd|secret|token", re.IGNORECASE)
PLACEHOLDER = re.compile(r"\{[\w.]+\}")
PASSWORD_VARIABLES = ("PGPASSWORD", "REDISCLI_AUTH")

_URL = re.compile(r"(?P<begin>:\\?/\\?/[^\s:/?#@'\"<>]*:)[^\s/'\"<>]+@")
_OPTION = re.compile(r"(?P<begin>[?&]\w*passw\w*=)[^\s&#'\"<>]+", re.IGNORECASE)
_WITH_PASSWORD = re.compile(r"\w[\w+.-]*://(?P<user>[^:/?#@]*):(?P<password>(?!\d+[/?#])\S+)@(?P<rest>.*)")
# The end of a line within a password: in a log of 80 columns, in pytest's output, between two parts of a literal.
_BREAK = r"""(?:["']?(?:\\?\r?\n|\\{1,8}[rn])[ \t]*(?:[E|>+?-][ \t]+){0,3}["']?|\x1b\[[\d;]*m){0,4}"""
# Spellings of single characters in forms, a shell, and texts of several lines.
_OTHERWISE = {
    " ": [r"\+"],
    "'": [r"\\{0,8}'\\{1,8}'\\{0,8}'", r"""\\{0,8}'\\{0,8}"\\{0,8}'\\{0,8}"\\{0,8}'"""],
    **{one: [rf"\\{{1,8}}{letter}"] for one, letter in {"\n": "n", "\t": "t", "\r": "r"}.items()},
}
_CUT = r"(?:\.\.\.|…)"


@dataclass(frozen=True)
class Secret:
    """A password, its user, and the names that it may be taken for."""

    text: str
    user: str = ""
    names: frozenset[str] = frozenset()

    @property
    def is_word(self) -> bool:
        """Return whether it may be a name that somebody has given to a test."""
        return re.fullmatch("[A-Za-z_-]+", self.text) is not None


def secrets_of(url: str) -> Iterator[Secret]:
    """Yield the passwords of a URL, as they are and as they were typed."""
    if found := _WITH_PASSWORD.match(url.strip()):
        user, typed, rest = map(str, found.groups())
        names = frozenset(name.lower() for name in [unquote(user), *re.split(r"[/:?#&=.]", unquote(rest))])
        yield from (Secret(text, unquote(user), names) for text in {typed, unquote(typed)})
    yield from (Secret(value) for name, value in parse_qsl(url.partition("?")[2]) if SECRET_OPTION.search(name))


def known_secrets(environ: Mapping[str, str], settings: Settings | None = None) -> frozenset[Secret]:
    """Return the passwords in the environment, and in URLs of the settings."""
    texts = [*environ.values()]
    for table in (settings, settings.app, *settings.processes.values()) if settings else ():
        texts += table.env.values() if table else ()
    found = {secret for text in texts if "://" in text for secret in secrets_of(text)}
    found |= {Secret(environ[name]) for name in PASSWORD_VARIABLES if environ.get(name)}
    return frozenset(one for one in found if not PLACEHOLDER.fullmatch(one.text))


class Redactor:
    """Hides these passwords, and that of each URL, known or not."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        known = [one for one in secrets if one.text]
        names = NAMES.union(*(one.names for one in known))
        texts = sorted({one.text for one in known}, key=lambda text: (-len(text), text))
        whole = [text for text in texts if len(text) >= LEAST_CHARACTERS and text.lower() not in names]
        encoded = [one for secret in known for one in (f"{secret.user}:{secret.text}", secret.text)]
        everywhere = [
            *map(_anywhere, whole),
            *map(_base64, sorted({one for one in encoded if one not in texts or one in whole})),
        ]
        in_urls = [_spelt(text) for text in texts if text not in whole]
        self._everywhere = list(map(re.compile, everywhere))
        self._in_urls = re.compile(rf"(?P<begin>://[^\s:/?#@]*:)(?:{'|'.join(in_urls)})@") if in_urls else None
        self._parts = [part for text in whole if not _is_word(text) for part in _parts(text)]

    def __call__(self, text: str) -> str:
        if not text:
            return text
        for pattern in self._everywhere:
            text = pattern.sub(HIDDEN, text)
        for pattern in filter(None, [self._in_urls, _URL]):
            text = pattern.sub(rf"\g<begin>{HIDDEN}@", text)
        text = _OPTION.sub(rf"\g<begin>{HIDDEN}", text)
        for least, pattern in self._parts:
            if least.search(text):
                text = pattern.sub(_hide_part, text)
        return text


@functools.lru_cache(maxsize=16)
def redactor(secrets: frozenset[Secret]) -> Redactor:
    """Return the redactor of these secrets, made once."""
    return Redactor(secrets)


class Terminal:
    """A stream without passwords. A closed pipe or a full device ends what it shows, and not the run."""

    def __init__(self, file: TextIO, scrub: Callable[[str], str]) -> None:
        self._file = file
        self._scrub = scrub

    def write(self, text: str) -> int:
        try:
            self._file.write(self._scrub(text))
            self._file.flush()
        except OSError as error:
            if error.errno not in OUTPUT_ENDED:
                raise
            drop_output(self._file)
        return len(text)

    def flush(self) -> None:
        """Do nothing: each text is written at once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _is_word(text: str) -> bool:
    """Return whether it may be a part of other words or numbers, and must not be hidden in these."""
    return text.isalpha() or text.isdigit()


def _anywhere(text: str) -> str:
    if not _is_word(text):
        return _spelt(text)
    # On its own, be it behind an escape.
    return rf"(?:(?<!\w)|(?<=%[\da-fA-F]{{2}})|(?<=\\[nrt])){_spelt(text)}(?!\w)"


def _spelt(text: str) -> str:
    """Return a pattern of a text in any spelling: quoted for URLs, JSON, SQL, HTML or a shell, or over two lines."""
    rest = r"[^\s'\"<>@]*" if len(text) > MOST_SPELT else ""
    return _BREAK.join(map(_character, text[:MOST_SPELT])) + rest


def _character(one: str) -> str:
    if one.isalnum() and one.isascii():
        return one
    code, raw = ord(one), re.escape(one)
    utf8, utf16 = one.encode(errors="surrogatepass"), one.encode("utf-16-be", "surrogatepass").hex()
    entity = html.entities.codepoint2name.get(code, "apos")
    escaped = [
        "".join(f"%(?:25){{0,4}}{byte:02x}" for byte in utf8),
        "".join(rf"\\{{1,8}}u{utf16[at : at + 4]}" for at in range(0, len(utf16), 4)),
        "".join(rf"\\{{1,8}}x{byte:02x}" for byte in utf8),
        "".join(rf"\\{{1,8}}{byte:03o}" for byte in utf8),
        *([rf"\\{{1,8}}x{code:02x}"] if 128 <= code < 256 else [rf"\\{{1,8}}U{code:08x}"]),
        rf"&(?:amp;){{0,4}}(?:#0*{code}|#x0*{code:x}|{entity});",
    ]
    other = [
        *_OTHERWISE.get(one, []),
        *([raw * 2] if one in "'\"%${}\\" else []),
    ]
    return "|".join([rf"(?:\\{{0,8}}{raw}", f"(?i:{'|'.join(escaped)})", *other]) + ")"


def _base64(text: str) -> str:
    """Return a pattern of a text in base64, as in a header `Authorization: Basic …`."""
    standard = base64.b64encode(text.encode(errors="replace")).decode().rstrip("=")
    spelt = "".join({"+": "[+-]", "/": "[/_]"}.get(one, one) for one in standard)
    return f"{spelt}(?:=|%3[dD])*"


def _parts(text: str) -> Iterator[tuple[re.Pattern[str], re.Pattern[str]]]:
    """Yield patterns of a password's end behind dots or the begin of a line, and of its begin before dots or an end.

    pytest cuts a long text in its middle, also within an escape, and leaves out what two texts have in
    common. Before each pattern comes one that finds out faster whether it may match.
    """
    first, last = list(map(_character, text[:MOST_SPELT])), list(map(_character, text[-MOST_SPELT:]))
    end = "(?:" * len(last[:-LEAST_PART]) + "".join(f"{one})?" for one in last[:-LEAST_PART])
    least = "".join(last[-LEAST_PART:])
    pattern = rf"(?P<cut>^[E|>+?\- \t]*|{_CUT})(?P<quote>['\"]?\w{{0,3}}?;?)(?P<part>{end}{least})"
    yield re.compile(least), re.compile(pattern, re.MULTILINE)
    least = "".join(first[:LEAST_PART])
    begin = "".join(f"(?:{one}" for one in first[LEAST_PART:]) + ")?" * len(first[LEAST_PART:])
    pattern = rf"(?P<part>{least}{begin})(?P<quote>(?:[\\%&]+#?\w{{0,4}}){{0,3}}['\"]?)(?P<cut>$|{_CUT})"
    yield re.compile(least), re.compile(pattern, re.MULTILINE)


def _hide_part(found: re.Match[str]) -> str:
    is_word = found["part"].isalpha() and not re.fullmatch(_CUT, found["cut"])
    hidden = found["part"] if is_word else HIDDEN
    pieces = found["cut"] + found["quote"] + hidden, hidden + found["quote"] + found["cut"]
    return pieces[found.start("part") == found.start()]
