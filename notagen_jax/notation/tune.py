"""Interleaved and reduced ABC text cut into header, declared voices and bar lines of cells.

Both forms have one line a bar, `[V:1]…|[V:2]…|`, in the reduced form with the stream header
`[r:i/j]` in front (paper §2.1, §2.2). Nothing is judged here, so any text can be cut.
"""

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction

from notagen_jax.notation.bars import Timing

MAX_VOICES = 100
"""More declared voices than this is a header that ran away; real scores stay below 64."""

_STREAM_HEADER = re.compile(r"\[r:(\d+)/(\d+)\]")
_OPEN_STREAM_HEADER = re.compile(r"\[r:[^\]\[]*\]?")
_VOICE_FIELD = re.compile(r"\[V:\s*(\w+)\s*\]")
_ROUND_GROUP = re.compile(r"\(([^()]*)\)")
_VOICE_ID = re.compile(r"\w+")


@dataclass(frozen=True)
class Row:
    """One line of the tune's body.

    `cells` are (voice, bar text) in the order written; `lead` is text before the first voice;
    `stream` the (bars done, bars to go) of its stream header, None where it has none; `line` its
    1-based number in the text.
    """

    cells: tuple[tuple[str, str], ...]
    lead: str
    stream: tuple[int, int] | None
    has_stream_header: bool
    line: int

    def text(self) -> str:
        """The line without its stream header."""
        return self.lead + "".join(f"[V:{voice}]{bar}" for voice, bar in self.cells)


@dataclass(frozen=True)
class Tune:
    """A piece of ABC text.

    `header` holds every line before the body, comments included; `voices` the declared voice ids in
    the order written; `score` the `%%score` lines' content; `groups` its round-bracket groups.
    """

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    voices: tuple[str, ...] = ()
    score: str | None = None
    groups: tuple[tuple[str, ...], ...] = ()
    timing: Timing = field(default_factory=Timing)

    @property
    def score_voices(self) -> tuple[str, ...]:
        """The voice ids that `%%score` places, in order."""
        return tuple(_VOICE_ID.findall(self.score or ""))

    def ordered_voices(self) -> list[str]:
        """The declared voices once each, by number where all are numbers, else as declared."""
        voices = list(dict.fromkeys(self.voices))
        numbered = all(re.fullmatch(r"[0-9]{1,9}", voice) for voice in voices)
        return sorted(voices, key=int) if numbered else voices


def parse_tune(text: str) -> Tune:
    """Cut ABC text at its first body line: one that holds `[V:` or starts with a stream header.

    Blank lines separate nothing in these forms and are dropped (official code's behaviour).
    """
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    start = next(
        (
            index
            for index, (_, line) in enumerate(lines)
            if not line.startswith("%") and ("[V:" in line or line.startswith("[r:"))
        ),
        len(lines),
    )
    header = tuple(line for _, line in lines[:start])
    voices = [match[1] for line in header if (match := re.match(r"V:\s*(\S+)", line))]
    scores = [line[len("%%score") :] for line in header if line.startswith("%%score")]
    score = " ".join(scores) if scores else None
    groups = [tuple(_VOICE_ID.findall(group)) for group in _ROUND_GROUP.findall(score or "")]
    return Tune(
        header=header,
        rows=tuple(cut_row(line, number) for number, line in lines[start:]),
        voices=tuple(voices),
        score=score,
        groups=tuple(group for group in groups if group),
        timing=_timing(header),
    )


def cut_row(line: str, number: int = 1) -> Row:
    """Cut one line of the tune body into its voices; `number` is its 1-based place in the text."""
    header = _OPEN_STREAM_HEADER.match(line)
    stream = None
    if header is not None:
        counts = _STREAM_HEADER.fullmatch(header[0])
        stream = (int(counts[1]), int(counts[2])) if counts and len(header[0]) < 24 else None
        line = line[header.end() :]
    pieces = _VOICE_FIELD.split(line)
    cells = tuple(zip(pieces[1::2], pieces[2::2], strict=True))
    return Row(cells=cells, lead=pieces[0], stream=stream, has_stream_header=header is not None, line=number)


def _timing(header: tuple[str, ...]) -> Timing:
    """Unit length and meter from the header; without `L:` the unit follows the meter (ABC 2.1 §3.1.7)."""
    fields = {line[0]: line[2:].strip() for line in header if line[:2] in ("M:", "L:")}
    timing = Timing().after_field(f"M:{fields['M']}") if "M" in fields else Timing()
    if timing.meter is not None and timing.meter < Fraction(3, 4):
        timing = replace(timing, unit=Fraction(1, 16))
    return timing.after_field(f"L:{fields['L']}") if "L" in fields else timing
