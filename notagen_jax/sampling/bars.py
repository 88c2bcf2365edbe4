"""Bars whose voices do not agree, told while a piece is being drawn, so that they can be drawn again."""

from dataclasses import dataclass, replace
from fractions import Fraction

from notagen_jax.notation.bars import Timing
from notagen_jax.notation.keys import Signatures, opening_signatures, sets_apart, signatures_behind
from notagen_jax.notation.tune import Row, cut_row, parse_tune
from notagen_jax.notation.validity import RowVerdict, check_row
from notagen_jax.sampling.windows import BODY_LINE


@dataclass(frozen=True)
class _State:
    """What holds between two bars."""

    timings: dict[str, Timing]
    """Of every declared voice."""
    signatures: Signatures
    metered: bool
    """Whether the header states a meter."""


class BarWatch:
    """Reads a growing piece line by line; each line of its tune body is a bar of all voices.

    `line_start` is the index in the text at which the line under way begins. Only `accept` changes
    anything: a bar that was looked at and thrown away leaves no trace.
    """

    def __init__(self, text: str) -> None:
        """text: what stands already, a prompt or more; its whole lines are taken as they are."""
        self.line_start = 0
        self._state: _State | None = None
        self.accept(text)

    def accept(self, text: str) -> None:
        """Take the whole lines that have come, sound or not; what follows them is under way."""
        while "\n" in text[self.line_start :]:
            self.accept_line(text)

    def accept_line(self, text: str) -> bool:
        """Take the line under way, which must be whole; returns whether it was a bar."""
        end = text.index("\n", self.line_start)
        line = text[self.line_start : end]
        is_bar = line.startswith(BODY_LINE)
        if is_bar:
            self._state = _read(cut_row(line), self._before(text))[1]
        self.line_start = end + 1
        return is_bar

    def is_broken_off(self, text: str) -> bool:
        """Whether a text that ends here ends inside a bar, or inside what should have become one."""
        line = text[self.line_start :]
        if not line.strip() or line.startswith("%"):
            return False
        return self._state is not None or line.startswith(BODY_LINE)

    def is_sound(self, text: str, judged: int = 0) -> bool:
        """Whether the line under way can still become, or is, a bar without a fault.

        judged: how much of the text was found sound before; no voice is judged twice

        A whole line is judged as `notation.check` would do it, one that is under way by the voices
        whose bar is closed: what follows mends neither unequal lengths or bar lines nor what cannot
        be read. Voices may be left out: they rest. Nor must a bar be longer than the meter that the
        header states, which in print is one of 3,500 (OpenScore); it may be shorter, as where a piece
        or a repeat begins. Nor must a key that it states set voices apart that stood in one key
        signature (`notation.keys`).
        """
        line, newline, _ = text[self.line_start :].partition("\n")
        if not line.startswith(BODY_LINE):
            return self._state is None or _may_become_bar(line, bool(newline))
        row = cut_row(line)
        if not newline:
            row = replace(row, cells=row.cells[:-1])
            known = len(cut_row(text[self.line_start : judged]).cells)
            if not row.cells or len(row.cells) < known:
                return True
        before = self._before(text)
        verdict, after, undeclared = _read(row, before)
        if undeclared or not verdict.aligned or verdict.faults:
            return False
        if before.metered and _overfull(verdict.durations, before.timings, after.timings):
            return False
        # The voices of a bar under way that have not come may still state their keys.
        come = set(after.signatures) if newline else {voice for voice, _ in row.cells}
        return not sets_apart(before.signatures, after.signatures, come)

    def _before(self, text: str) -> _State:
        """What holds before the line under way: behind the last bar, or behind the header."""
        if self._state is not None:
            return self._state
        tune = parse_tune(text[: self.line_start])
        metered = any(line.startswith("M:") for line in tune.header)
        return _State(dict.fromkeys(tune.voices, tune.timing), opening_signatures(tune), metered)


def _may_become_bar(line: str, whole: bool) -> bool:
    """Whether a line behind the first bar can still become one, or is one that is passed over."""
    if not line.strip() or line.startswith("%"):
        return True
    return not whole and any(start.startswith(line) for start in BODY_LINE)


def _read(row: Row, before: _State) -> tuple[RowVerdict, _State, bool]:
    """The verdict on a bar, what holds behind it, and whether it has undeclared voices.

    A voice that no header line declares is kept nowhere: it stays a fault in every bar.
    """
    timings = dict(before.timings)
    declared = tuple(cell for cell in row.cells if cell[0] in timings)
    verdict = check_row(replace(row, cells=declared), timings, expected=())
    after = replace(before, timings=timings, signatures=signatures_behind(row, before.signatures))
    return verdict, after, len(declared) < len(row.cells)


def _overfull(
    durations: dict[str, Fraction | None], before: dict[str, Timing], after: dict[str, Timing]
) -> bool:
    """Whether a voice's bar lasts longer than its meter, which may change at either end of the bar."""
    for voice, duration in durations.items():
        meters = [timings[voice].meter for timings in (before, after)]
        known = [meter for meter in meters if meter is not None]
        if duration is not None and len(known) == len(meters) and duration > max(known):
            return True
    return False
