"""Whether a piece can be played as written: aligned voices, closed brackets, declared voices."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from operator import attrgetter
from typing import Any

from notagen_jax.notation.bars import Bar, Timing, read_bar
from notagen_jax.notation.tune import MAX_VOICES, Row, Tune, parse_tune

_BRACKETS = {")": "(", "]": "[", "}": "{"}
_ENDS = (attrgetter("opening"), attrgetter("closing"))


@dataclass(frozen=True)
class Fault:
    """One fault: the bar (1-based) and voice where it stands, None where it concerns the whole piece."""

    bar: int | None
    voice: str | None
    message: str

    def __str__(self) -> str:
        place = [f"bar {self.bar}"] if self.bar is not None else []
        place += [f"voice {self.voice}"] if self.voice is not None else []
        return f"{', '.join(place)}: {self.message}" if place else self.message


@dataclass(frozen=True)
class MisalignedBar:
    """A bar whose voices differ: each voice's duration in whole notes, None where it cannot be counted."""

    bar: int
    durations: dict[str, str | None]


@dataclass(frozen=True)
class Validity:
    """The verdict on one interleaved piece.

    `misaligned` lists the bars whose voices differ in duration, `bar_line_disagreements` those whose
    voices close (or open) with different bar lines, voltas apart. `faults` is everything that is
    wrong, in bar order, those two included.
    """

    bars: int
    voices: tuple[str, ...]
    notes: int
    bar_counts: dict[str, int]
    misaligned: tuple[MisalignedBar, ...]
    bar_line_disagreements: tuple[int, ...]
    undeclared: tuple[str, ...]
    faults: tuple[Fault, ...]

    @property
    def aligned(self) -> bool:
        """Whether all voices agree in bar count, bar lines and bar durations (paper §2.4's check)."""
        return (
            self.bars > 0
            and not self.misaligned
            and not self.bar_line_disagreements
            and len(set(self.bar_counts.values())) == 1
        )

    @property
    def ok(self) -> bool:
        """Whether the piece is aligned and has no fault at all."""
        return self.aligned and not self.faults

    @property
    def bar_alignment_error(self) -> float:
        """Share of bars, 0 … 1, whose voices differ in duration (paper §3.3; the paper prints percent)."""
        return len(self.misaligned) / self.bars if self.bars else 1.0

    @property
    def first_fault(self) -> str | None:
        """The first fault as one line that names its bar and voice; None for a sound piece."""
        return str(self.faults[0]) if self.faults else None

    def to_json(self) -> dict[str, Any]:
        """Return a tree that `json.dumps` takes, the derived verdicts included."""
        return {
            "ok": self.ok,
            "aligned": self.aligned,
            "bar_alignment_error": self.bar_alignment_error,
            "first_fault": self.first_fault,
            **asdict(self),
        }


def check(interleaved: str) -> Validity:
    """Judge interleaved text (rests restored). Never raises on bad music: every fault is in the verdict."""
    tune = parse_tune(interleaved)
    faults = _header_faults(tune)
    undeclared = _undeclared(tune)
    faults += [
        Fault(number, voice, "the voice is not declared in the header")
        for voice, number in undeclared.items()
    ]
    expected = tune.ordered_voices()[:MAX_VOICES]
    voices = (*tune.ordered_voices(), *undeclared)
    timings = dict.fromkeys(voices, tune.timing)
    counts = dict.fromkeys(voices, 0)
    misaligned, disagreements, notes = [], [], 0
    number = 0
    for row in tune.rows:
        if not row.cells:
            if not row.lead.startswith("%"):
                faults.append(Fault(number + 1, None, f"line {row.line} belongs to no voice"))
            continue
        number += 1
        verdict = check_row(row, timings, expected)
        for voice, _ in row.cells:
            counts[voice] += 1
        notes += verdict.notes
        faults += [Fault(number, voice, message) for voice, message in verdict.faults]
        if not verdict.aligned:
            durations = {voice: _text(duration) for voice, duration in verdict.durations.items()}
            misaligned.append(MisalignedBar(number, durations))
        if not verdict.lines_agree:
            disagreements.append(number)
    if not notes:
        faults.append(Fault(None, None, "the piece has no notes"))
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"voice {voice} {count}" for voice, count in counts.items())
        faults.append(Fault(None, None, f"the voices have unequal numbers of bars ({listed})"))
    return Validity(
        bars=number,
        voices=voices,
        notes=notes,
        bar_counts=counts,
        misaligned=tuple(misaligned),
        bar_line_disagreements=tuple(disagreements),
        undeclared=tuple(undeclared),
        faults=tuple(faults),
    )


@dataclass(frozen=True)
class RowVerdict:
    """The verdict on one line of the body: each voice's duration and what is wrong, by voice."""

    durations: dict[str, Fraction | None]
    notes: int
    lines_agree: bool
    faults: tuple[tuple[str | None, str], ...]

    @property
    def aligned(self) -> bool:
        """Whether every voice can be counted and all last equally long."""
        return len(set(self.durations.values())) <= 1 and None not in self.durations.values()


def check_row(row: Row, timings: dict[str, Timing], expected: Sequence[str]) -> RowVerdict:
    """Judge one line that holds bars; `timings` of its voices move on to behind it.

    timings:  of every voice that may stand in the line
    expected: the voices that must; in reduced text, where voices may rest unwritten, none
    """
    faults: list[tuple[str | None, str]] = []
    bars: dict[str, Bar] = {}
    notes = 0
    if row.lead.strip():
        faults.append((None, f"the text {row.lead[:20]!r} belongs to no voice"))
    for voice, text in row.cells:
        bar, timings[voice] = read_bar(text, timings[voice])
        if voice in bars:
            faults.append((voice, "the voice stands twice in the bar"))
        bars[voice] = bar
        notes += bar.notes
        faults += [(voice, message) for message in bar.faults]
    missing = [voice for voice in expected if voice not in bars]
    faults += [(voice, "the voice has no bar here") for voice in missing]
    durations = {voice: bars[voice].duration if voice in bars else None for voice in (*missing, *bars)}
    if len(set(durations.values())) > 1 and None not in durations.values():
        faults.append(_difference(durations))
    lines_agree = all(len({line(bar) for bar in bars.values()}) <= 1 for line in _ENDS)
    if not lines_agree:
        faults.append((None, _bar_line_message(bars)))
    return RowVerdict(durations, notes, lines_agree, tuple(faults))


def _header_faults(tune: Tune) -> list[Fault]:
    faults = []
    if not tune.voices:
        faults.append(Fault(None, None, "the header declares no voice"))
    if len(tune.ordered_voices()) > MAX_VOICES:
        faults.append(Fault(None, None, f"the header declares more than {MAX_VOICES} voices"))
    for voice, times in Counter(tune.voices).items():
        if times > 1:
            faults.append(Fault(None, voice, f"the header declares the voice {times} times"))
    if not any(line.startswith("K:") for line in tune.header):
        faults.append(Fault(None, None, "the header has no key (K:)"))
    if tune.score is None:
        return faults
    open_brackets = _unbalanced(tune.score)
    if open_brackets:
        faults.append(Fault(None, None, f"%%score has an unmatched {open_brackets!r}"))
    placed = Counter(tune.score_voices)
    for voice, times in placed.items():
        if voice not in tune.voices:
            faults.append(Fault(None, voice, "%%score names a voice that the header does not declare"))
        if times > 1:
            faults.append(Fault(None, voice, f"%%score names the voice {times} times"))
    faults += [
        Fault(None, voice, "the voice is declared but %%score leaves it out")
        for voice in dict.fromkeys(tune.voices)
        if voice not in placed
    ]
    return faults


def _unbalanced(score: str) -> str:
    """The brackets of a `%%score` line that have no partner."""
    stack: list[str] = []
    for sign in score:
        if sign in _BRACKETS.values():
            stack.append(sign)
        elif sign in _BRACKETS:
            if not stack or stack[-1] != _BRACKETS[sign]:
                return sign
            stack.pop()
    return "".join(stack)


def _undeclared(tune: Tune) -> dict[str, int]:
    """The voices that sound without being declared, each with its first bar."""
    declared = set(tune.voices)
    first: dict[str, int] = {}
    for number, row in enumerate((row for row in tune.rows if row.cells), 1):
        for voice, _ in row.cells:
            if voice not in declared:
                first.setdefault(voice, number)
    return first


def _difference(durations: dict[str, Fraction | None]) -> tuple[str, str]:
    """Name the voices that are not as long as most."""
    usual = Counter(durations.values()).most_common(1)[0][0]
    odd = [(voice, length) for voice, length in durations.items() if length != usual]
    listed = ", ".join(f"voice {voice} lasts {length}" for voice, length in odd)
    return odd[0][0], f"{listed} of a whole note, most voices {usual}"


def _bar_line_message(bars: dict[str, Bar]) -> str:
    listed = ", ".join(f"voice {voice} {bar.opening}…{bar.closing}" for voice, bar in bars.items())
    return f"the voices have different bar lines ({listed})"


def _text(duration: Fraction | None) -> str | None:
    return None if duration is None else str(duration)
