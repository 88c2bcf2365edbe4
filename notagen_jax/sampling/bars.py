"""Bars that do not add up, told while a piece is being drawn, so that they can be drawn again."""

from dataclasses import replace
from fractions import Fraction

from notagen_jax.notation.bars import Timing
from notagen_jax.notation.tune import Row, cut_row, parse_tune
from notagen_jax.notation.validity import check_row
from notagen_jax.sampling.windows import BODY_LINE


class BarWatch:
    """Reads a growing piece line by line; each line of its tune body is a bar of all voices.

    `line_start` is the index in the text at which the line under way begins.
    """

    def __init__(self, text: str) -> None:
        """text: what stands already, a prompt or more; its whole lines are taken as they are."""
        self.line_start = 0
        self._timings: dict[str, Timing] | None = None
        self._judged = 0
        self.accept(text)

    def accept(self, text: str) -> None:
        """Take the whole lines that have come, sound or not; what follows them is under way."""
        while (end := text.find("\n", self.line_start)) >= 0:
            line = text[self.line_start : end]
            if line.startswith(BODY_LINE):
                self._timings = self._read(text, cut_row(line))[1]
            self.line_start = end + 1
            self._judged = 0

    def is_sound(self, text: str) -> bool:
        """Whether the line under way can still become, or is, a bar without a fault.

        A whole line is judged as `notation.check` would do it, one that is under way by the voices
        whose bar is closed: what follows mends neither unequal lengths or bar lines nor what cannot
        be read. Voices may be left out: they rest. A bar must not be longer than its meter either, which
        in print is one of 3,500 (OpenScore); it may be shorter, as where a piece or a repeat begins.
        """
        line, newline, _ = text[self.line_start :].partition("\n")
        if not line.startswith(BODY_LINE):
            return self._timings is None or not newline or not line
        closed = line.count("[V:") - (not newline)
        if not newline and closed <= self._judged:
            return True
        self._judged = closed
        row = cut_row(line)
        return self._read(text, row if newline else replace(row, cells=row.cells[:-1]))[0]

    def _read(self, text: str, row: Row) -> tuple[bool, dict[str, Timing]]:
        """Whether a bar has no fault, and the timing of each voice behind it."""
        if self._timings is None:
            tune = parse_tune(text[: self.line_start])
            self._timings = dict.fromkeys(tune.voices, tune.timing)
        timings = dict(self._timings)
        undeclared = [voice for voice, _ in row.cells if voice not in timings]
        # A voice that no header line declares keeps no timing: it stays a fault in every bar.
        row = replace(row, cells=tuple(cell for cell in row.cells if cell[0] not in undeclared))
        verdict = check_row(row, timings, expected=())
        sound = not undeclared and verdict.aligned and not verdict.faults
        return sound and not _overfull(verdict.durations, timings), timings


def _overfull(durations: dict[str, Fraction | None], timings: dict[str, Timing]) -> bool:
    """Whether a voice's bar lasts longer than its meter says."""
    for voice, duration in durations.items():
        meter = timings[voice].meter
        if duration is not None and meter is not None and duration > meter:
            return True
    return False
