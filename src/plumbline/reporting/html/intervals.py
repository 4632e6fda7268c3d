"""The changes of benchmarks with their intervals, drawn on one scale in the rows of the table."""

from collections.abc import Sequence

from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.html.elements import Markup, tag, tone, verdict_of
from plumbline.results.schema import Benchmark, Results

_FARTHEST = 0.6  # changes beyond this are drawn at the edge, with their number
_WIDTH, _HEIGHT = 160, 16
_GAP = 8  # between a mark and its number
_CHARACTER_WIDTH = 7  # of the labels of the axis
# The mark of a change by tone, drawn from its position.
_MARKS = {
    "bad": "m-4-5 9 5-9 5z",
    "unsure": "m0-6 6 6-6 6-6-6z",
    "good": "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "neutral": "m-4-4h8v8h-8z",
}


class Intervals:
    """The scale of all changes that are evidence, and its drawings."""

    def __init__(self, results: Results, benchmarks: Sequence[Benchmark]) -> None:
        self._results = results
        self.shown = [one for one in benchmarks if content.is_evidence(one)]
        ends = [0.0]
        for one in self.shown:
            bounds = one.change, one.change_low, one.change_high, *content.limits(results, one)
            ends += [bound for bound in bounds if bound is not None]
        margin = 0.04 * (max(ends) - min(ends)) or 0.01
        self._low = max(-_FARTHEST, min(ends) - margin)
        self._high = min(_FARTHEST, max(ends) + margin)
        limits = {content.limits(results, one) for one in self.shown}
        self._limits = limits.pop() if len(limits) == 1 else (None, None)  # of all benchmarks

    def _at(self, share: float) -> float:
        inside = min(max(share, self._low), self._high)
        return round((inside - self._low) / (self._high - self._low) * _WIDTH, 1)

    def axis(self) -> Markup:
        """Return the ends of the scale and its zero as labels, above them the name of the band."""
        zero = self._at(0)
        labels = [tag("text", "0", x=str(zero), y="12", text_anchor="middle")]
        for share, at, anchor in ((self._low, 0, "start"), (self._high, _WIDTH, "end")):
            text = form.percent(share)
            if abs(at - zero) > (len(text) + 1.5) * _CHARACTER_WIDTH:  # they would collide otherwise
                labels.append(tag("text", text, x=str(at), y="12", text_anchor=anchor))
        tolerance, effect = self._limits
        if tolerance is not None and effect is not None:
            text = f"limits {tolerance * 100:g}…{effect * 100:g} %"
            half = len(text) / 2 * _CHARACTER_WIDTH
            middle = min(max((self._at(tolerance) + self._at(effect)) / 2, half), _WIDTH - half)
            labels.append(tag("text", text, x=f"{middle:.1f}", y="-4", text_anchor="middle"))
        return self._drawn(*labels, lines=2)

    def row(self, benchmark: Benchmark) -> Markup:
        """Return the drawing of one change; nothing if it is not evidence."""
        if benchmark.change is None or not content.is_evidence(benchmark):
            return Markup()
        low, high = (
            self._at(edge if bound is None else bound)
            for bound, edge in ((benchmark.change_low, self._low), (benchmark.change_high, self._high))
        )
        tolerance, effect = content.limits(self._results, benchmark)
        parts = []
        if tolerance is not None and effect is not None:
            left, right = self._at(tolerance), self._at(effect)
            parts.append(tag("path", d=f"M{left} 0H{right}V{_HEIGHT}H{left}z", class_="band"))
        parts.append(tag("path", d=f"M{self._at(0)} 0v{_HEIGHT}", class_="zero"))
        if benchmark.change_low is not None or benchmark.change_high is not None:
            parts.append(tag("path", d=f"M{low} {_HEIGHT // 2}H{high}", class_="interval"))
        its_tone = tone(verdict_of(benchmark))
        at = self._at(benchmark.change)
        parts.append(tag("path", d=f"M{at} {_HEIGHT // 2}{_MARKS[its_tone]}", class_="mark"))
        if not self._low <= benchmark.change <= self._high:
            x, anchor = (at - _GAP, "end") if benchmark.change > 0 else (at + _GAP, "start")
            parts.append(tag("text", form.percent(benchmark.change), x=f"{x:.1f}", y="12", text_anchor=anchor))
        return self._drawn(*parts, class_=its_tone)

    def _drawn(self, *parts: Markup, class_: str | None = None, lines: int = 1) -> Markup:
        box = f"0 {_HEIGHT * (1 - lines)} {_WIDTH} {_HEIGHT * lines}"
        return tag("svg", *parts, class_=class_, viewBox=box, aria_hidden="true")

    @property
    def legend(self) -> str:
        """Return what a reader has to know of the drawings."""
        against = "the base, or the baseline without a paired comparison" if self._results.base else "the baseline"
        text = f"Change of the median against {against}, with its interval. Right is slower."
        if any(None not in content.limits(self._results, one) for one in self.shown):
            wins = {True: "it is slower", False: "it passes"}
            paired = {content.is_paired(one) for one in self.shown}
            both = f"{wins[True]} if it was compared in pairs, and passes otherwise"
            text += (
                " The shaded band goes from the tolerance to the minimum effect. A benchmark is slower if its whole "
                "interval is right of the band's left edge. It passes if its whole interval is left of the "
                f"band's right edge. If both hold, {both if len(paired) > 1 else wins[paired.pop()]}."
            )
        return text
