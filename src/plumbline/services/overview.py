"""The services of a run as text."""

from collections.abc import Mapping, Sequence

from plumbline.services.base import Service


def service_lines(
    services: Sequence[Service], skipped: Mapping[str, str], pinned: Mapping[str, int | None]
) -> list[str]:
    """Return one line per service: its backend, its version, its core in `pinned`, and the reason for the backend."""
    text = []
    for one in services:
        core = pinned.get(one.name)
        on_core = f"on core {core}" if core is not None else ""
        parts = filter(None, [one.backend, one.product, one.version, on_core, f"({one.why})"])
        text.append(f"{one.name:<10} {' '.join(parts)}")
    return text + [f"{name:<10} skipped: {reason}" for name, reason in skipped.items()]


def service_table(services: Sequence[Service], skipped: Mapping[str, str]) -> list[str]:
    """Return a table of the services with the time that each took to become ready, and its address."""
    rows = [("service", "backend", "version", "ready after", "address")]
    for one in services:
        ready = f"{one.ready_s * 1000:.0f} ms" if one.ready_s is not None else "-"
        version = f"{one.product} {one.version}".strip() or "-"
        rows.append((one.name, one.backend, version, ready, one.address.shown))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return [*text, *(f"{name}  skipped: {reason}" for name, reason in skipped.items())]
