"""Hides passwords in all output, in every usual encoding. No decision is based on redacted text.

A password is hidden everywhere if it has at least MIN_CHARACTERS characters and is not a common name: that of its
user, database, host or a service, or one of NAMES. Any other password is hidden in URLs only. A report without each
"app" or "postgres" would be unreadable, and would give the password away.
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

MIN_CHARACTERS = 6
MIN_PART = 4  # characters of a password in a text that pytest has shortened
MAX_MATCHED = 64  # characters of a long token that are matched; the rest is whatever follows
HIDDEN = "***"
NAMES = {
    *("postgres", "postgresql", "redis", "valkey", "docker", "embedded", "external", "shared"),
    *("process", "password", "database", "default", "public"),
}
SECRET_OPTION = re.compile(r"passw|(^|[^a-z]|db|pg)pass(phrase)?$|pwd|secret|token", re.IGNORECASE)
PLACEHOLDER = re.compile(r"\{[\w.]+\}")
PASSWORD_VARIABLES = ("PGPASSWORD", "REDISCLI_AUTH")

_URL = re.compile(r"(?P<begin>:\\?/\\?/[^\s:/?#@'\"<>]*:)(?!\{[\w.]+\}@)[^\s/'\"<>]+@")
_OPTION = re.compile(r"(?P<begin>[?&]\w*passw\w*=)[^\s&#'\"<>]+", re.IGNORECASE)
_WITH_PASSWORD = re.compile(r"\w[\w+.-]*://(?P<user>[^:/?#@]*):(?P<password>(?!\d+[/?#])\S+)@(?P<rest>.*)")
# A line break within a password: in a log of 80 columns, in pytest's output, or in a split string literal.
_BREAK = r"""(?:["']?(?:\\?\r?\n|\\{1,8}[rn])[ \t]*(?:[E|>+?-][ \t]+){0,3}["']?|\x1b\[[\d;]*m){0,4}"""
# Other encodings of single characters: in forms, shells, and strings with escapes.
_OTHERWISE = {
    " ": [r"\+"],
    "'": [r"\\{0,8}'\\{1,8}'\\{0,8}'", r"""\\{0,8}'\\{0,8}"\\{0,8}'\\{0,8}"\\{0,8}'"""],
    **{one: [rf"\\{{1,8}}{letter}"] for one, letter in {"\n": "n", "\t": "t", "\r": "r"}.items()},
}
_CUT = r"(?:\.\.\.|…)"


@dataclass(frozen=True)
class Secret:
    """A password, its user, and the names that may equal the password without revealing it."""

    text: str
    user: str = ""
    names: frozenset[str] = frozenset()

    @property
    def is_word(self) -> bool:
        """Return whether it could be a part of a test's name."""
        return re.fullmatch("[A-Za-z_-]+", self.text) is not None


def secrets_of(url: str) -> Iterator[Secret]:
    """Yield the passwords of a URL, with and without percent-encoding."""
    if found := _WITH_PASSWORD.match(url.strip()):
        user, typed, rest = map(str, found.groups())
        names = frozenset(name.lower() for name in [unquote(user), *re.split(r"[/:?#&=.]", unquote(rest))])
        yield from (Secret(text, unquote(user), names) for text in {typed, unquote(typed)})
    yield from (Secret(value) for name, value in parse_qsl(url.partition("?")[2]) if SECRET_OPTION.search(name))


def secrets_in(environ: Mapping[str, str]) -> Iterator[Secret]:
    """Yield the values of variables that hold a password, by their names."""
    yield from (Secret(value) for name, value in environ.items() if SECRET_OPTION.search(name) and value)


def known_secrets(environ: Mapping[str, str], settings: Settings | None = None) -> frozenset[Secret]:
    """Return the passwords in the environment and in the URLs of the settings."""
    texts = [*environ.values()]
    for table in (settings, *settings.code_under_test, *settings.services.values()) if settings else ():
        texts += table.env.values()
    found = {secret for text in texts if "://" in text for secret in secrets_of(text)}
    found |= {Secret(environ[name]) for name in PASSWORD_VARIABLES if environ.get(name)}
    found |= {secret for one in (settings.services.values() if settings else ()) for secret in secrets_in(one.env)}
    return frozenset(one for one in found if not PLACEHOLDER.fullmatch(one.text))


class Redactor:
    """Hides the given passwords, and the password of any URL."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        known = [one for one in secrets if one.text]
        names = NAMES.union(*(one.names for one in known))
        texts = sorted({one.text for one in known}, key=lambda text: (-len(text), text))
        whole = [text for text in texts if len(text) >= MIN_CHARACTERS and text.lower() not in names]
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
    """Return the cached redactor of these secrets."""
    return Redactor(secrets)


class Terminal:
    """A stream that hides passwords. After a closed pipe or a full disk it discards its output."""

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
        """Do nothing: `write` flushes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _is_word(text: str) -> bool:
    """Return whether it could be a part of other words or numbers, in which it must stay."""
    return text.isalpha() or text.isdigit()


def _anywhere(text: str) -> str:
    if not _is_word(text):
        return _spelt(text)
    # Only as a whole word, also after an escape.
    return rf"(?:(?<!\w)|(?<=%[\da-fA-F]{{2}})|(?<=\\[nrt])){_spelt(text)}(?!\w)"


def _spelt(text: str) -> str:
    """Return a pattern for a text that may be quoted for URLs, JSON, SQL, HTML or a shell, or split into lines."""
    rest = r"[^\s'\"<>@]*" if len(text) > MAX_MATCHED else ""
    return _BREAK.join(map(_character, text[:MAX_MATCHED])) + rest


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
    """Return a pattern for a text in base64, as in a header `Authorization: Basic …`."""
    standard = base64.b64encode(text.encode(errors="replace")).decode().rstrip("=")
    spelt = "".join({"+": "[+-]", "/": "[/_]"}.get(one, one) for one in standard)
    return f"{spelt}(?:=|%3[dD])*"


def _parts(text: str) -> Iterator[tuple[re.Pattern[str], re.Pattern[str]]]:
    """Yield patterns for the end of a password after an ellipsis or a line start, and for its start before these.

    pytest shortens long texts in the middle, even within an escape, and omits the common part of two texts. Each
    pattern is preceded by a faster one that rules out most texts.
    """
    first, last = list(map(_character, text[:MAX_MATCHED])), list(map(_character, text[-MAX_MATCHED:]))
    end = "(?:" * len(last[:-MIN_PART]) + "".join(f"{one})?" for one in last[:-MIN_PART])
    least = "".join(last[-MIN_PART:])
    pattern = rf"(?P<cut>^[E|>+?\- \t]*|{_CUT})(?P<quote>['\"]?\w{{0,3}}?;?)(?P<part>{end}{least})"
    yield re.compile(least), re.compile(pattern, re.MULTILINE)
    least = "".join(first[:MIN_PART])
    begin = "".join(f"(?:{one}" for one in first[MIN_PART:]) + ")?" * len(first[MIN_PART:])
    pattern = rf"(?P<part>{least}{begin})(?P<quote>(?:[\\%&]+#?\w{{0,4}}){{0,3}}['\"]?)(?P<cut>$|{_CUT})"
    yield re.compile(least), re.compile(pattern, re.MULTILINE)


def _hide_part(found: re.Match[str]) -> str:
    is_word = found["part"].isalpha() and not re.fullmatch(_CUT, found["cut"])
    hidden = found["part"] if is_word else HIDDEN
    pieces = found["cut"] + found["quote"] + hidden, hidden + found["quote"] + found["cut"]
    return pieces[found.start("part") == found.start()]
