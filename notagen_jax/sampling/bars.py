"""Bars that do not add up, told while a piece is being drawn, so that they can be drawn again."""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from notagen_jax.notation.bars import Timing
from notagen_jax.notation.keys import signature
from notagen_jax.notation.tune import Row, cut_row, parse_tune
from notagen_jax.notation.validity import RowVerdict, check_row
from notagen_jax.sampling.windows import BODY_LINE

_INLINE_KEY = re.compile(r"\[K:([^\]]*)\]")


@dataclass(frozen=True)
class _State:
    """What holds before a bar."""

    timings: dict[str, Timing]
    """Of every declared voice."""
    keys: dict[str, int | None]
    """Sharps or flats of the voices that sound as written; None: no signature, or not known."""
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

    @property
    def body_has_begun(self) -> bool:
        """Whether a bar has been accepted."""
        return self._state is not None

    def accept(self, text: str) -> None:
        """Take the whole lines that have come, sound or not; what follows them is under way."""
        while (end := text.find("\n", self.line_start)) >= 0:
            line = text[self.line_start : end]
            if line.startswith(BODY_LINE):
                self._state = _read(cut_row(line), self._before(text))[1]
            self.line_start = end + 1

    def is_sound(self, text: str, judged: int = 0) -> bool:
        """Whether the line under way can still become, or is, a bar without a fault.

        judged: how much of the text was found sound before; no voice is judged twice

        A whole line is judged as `notation.check` would do it, one that is under way by the voices
        whose bar is closed: what follows mends neither unequal lengths or bar lines nor what cannot
        be read. Voices may be left out: they rest. Two more things are faults here, each in one bar of
        a thousand in print (OpenScore, Bach's chorales): a bar longer than the meter that the header
        states (shorter it may be, as where a piece or a repeat begins), and voices in different keys.
        """
        line, newline, _ = text[self.line_start :].partition("\n")
        if not line.startswith(BODY_LINE):
            return not self.body_has_begun or _may_become_bar(line, bool(newline))
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
        in_keys = {after.keys.get(voice) for voice, _ in row.cells} - {None}
        return len(in_keys) <= 1 and not _overfull(verdict.durations, before, after)

    def _before(self, text: str) -> _State:
        """What holds before the line under way: behind the last bar, or behind the header."""
        if self._state is not None:
            return self._state
        tune = parse_tune(text[: self.line_start])
        fields = {line[:2]: line[2:] for line in tune.header}
        key = signature(fields.get("K:", ""))
        transposed = {line.split()[0] for line in tune.header if "transpose=" in line}
        return _State(
            dict.fromkeys(tune.voices, tune.timing),
            {voice: key for voice in tune.voices if f"V:{voice}" not in transposed},
            "M:" in fields,
        )


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
    keys = _keys_behind(declared, before.keys)
    return verdict, replace(before, timings=timings, keys=keys), len(declared) < len(row.cells)


def _keys_behind(cells: tuple[tuple[str, str], ...], before: dict[str, int | None]) -> dict[str, int | None]:
    """Each voice's key signature behind a bar.

    A voice that says itself that it has no signature is not compared with others: so do timpani and horns.
    """
    after = dict(before)
    for voice, bar in cells:
        for key in _INLINE_KEY.findall(bar) if voice in before else ():
            sharps = signature(key)
            if sharps is not None:
                after[voice] = sharps or None
    return after


def _overfull(durations: dict[str, Fraction | None], before: _State, after: _State) -> bool:
    """Whether a voice's bar lasts longer than its meter, which may change at either end of the bar."""
    for voice, duration in durations.items():
        meters = [state.timings[voice].meter for state in (before, after)]
        known = [meter for meter in meters if meter is not None]
        if before.metered and duration is not None and len(known) == len(meters) and duration > max(known):
            return True
    return False
