"""The services of a run as text: one line each, or a table."""

from collections.abc import Mapping, Sequence

from plumbline.services.base import Service


def lines(running: Sequence[Service], skipped: Mapping[str, str], pinned: Mapping[str, int | None]) -> list[str]:
    """Return one line for each service; `pinned` has the core by name, `skipped` the reason."""
    text = []
    for one in running:
        core = pinned.get(one.name)
        on_core = f"on core {core}" if core is not None else ""
        parts = filter(None, [one.backend, one.product, one.version, on_core, f"({one.why})"])
        text.append(f"{one.name:<10} {' '.join(parts)}")
    return text + [f"{name:<10} skipped: {reason}" for name, reason in skipped.items()]


def table(running: Sequence[Service], skipped: Mapping[str, str]) -> list[str]:
    """Return a table of the services; addresses hold no password."""
    rows = [("service", "backend", "version", "ready after", "address")]
    for one in running:
        ready = f"{one.ready_s * 1000:.0f} ms" if one.ready_s is not None else "-"
        rows.append((one.name, one.backend, f"{one.product} {one.version}".strip() or "-", ready, one.address.shown))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*text, *(f"{name}  skipped: {reason}" for name, reason in skipped.items())]
