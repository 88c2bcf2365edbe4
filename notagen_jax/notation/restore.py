"""From the text a model writes to the interleaved form: every omitted voice gets its rest back.

The model's text leaves out voices that rest for a bar (paper §2.1). Without them neither players
nor converters can count, so they come back as a rest of the length that most voices of the bar have.
"""

from collections import Counter
from fractions import Fraction

from notagen_jax.errors import NotaGenError
from notagen_jax.notation.bars import Timing, read_bar
from notagen_jax.notation.tune import MAX_VOICES, Row, Tune, parse_tune


def restore_rests(text: str) -> str:
    """Return the interleaved text of a generated or reduced piece.

    Stream headers go; an omitted voice rests for as long as most voices of that bar last, written
    `z` for the first voice of a round-bracket `%%score` group and for a voice in no group, `x` for
    the others of a group (paper §2.1, official code's behaviour). A bar that cannot be counted takes
    the length of the one before, and the first one the meter's. Bars that stand in the text are
    copied as they are, faults included: judging them is `validity.check`.

    Raises `NotaGenError` when the text has no bars or declares no voice.
    """
    tune = parse_tune(text)
    if not tune.rows:
        raise NotaGenError(
            "the text has no bars: no line holds [V:…] (was generation cut off in the header?)"
        )
    voices = tune.ordered_voices()
    if not voices:
        raise NotaGenError(
            "the header declares no voice: it needs one line such as 'V:1 treble' for each voice"
        )
    if len(voices) > MAX_VOICES:
        raise NotaGenError(f"the header declares {len(voices)} voices; more than {MAX_VOICES} is no score")
    body = _restore_rows(tune, voices)
    return "".join(f"{line}\n" for line in (*tune.header, *body))


def bars_to_go(text: str) -> int | None:
    """How many bars the last stream header of generated text announces: 0 for a complete piece.

    None where the text has no readable stream header.
    """
    streams = [row.stream for row in parse_tune(text).rows if row.stream is not None]
    return streams[-1][1] if streams else None


def for_viewing(text: str) -> str:
    """Return the text as other programs expect a tune: `X:1` first, no `%` comment lines (`%%` stays)."""
    lines = [line for line in text.split("\n") if line.strip()]
    lines = [line for line in lines if not line.startswith("%") or line.startswith("%%")]
    lines = [line for line in lines if not line.startswith("X:")]
    return "".join(f"{line}\n" for line in ("X:1", *lines))


def _restore_rows(tune: Tune, voices: list[str]) -> list[str]:
    hidden = {voice for group in tune.groups for voice in group[1:]} - {group[0] for group in tune.groups}
    timings = dict.fromkeys(voices, tune.timing)
    reference = tune.timing.meter if tune.timing.meter is not None else Fraction(1)
    lines = []
    for index, row in enumerate(tune.rows):
        if not row.cells and not row.has_stream_header:
            lines.append(row.text())  # a line of no voice: kept for the judge to see
            continue
        duration, opening, closing = _measure(row, timings, tune.timing)
        reference = reference if duration is None else duration
        stated = {voice for voice, _ in row.cells}
        cells = [(voice, bar) for voice, bar in row.cells if voice not in timings]  # undeclared
        for voice in reversed(voices):
            if voice in stated:
                cells[:0] = [cell for cell in row.cells if cell[0] == voice]
            else:
                rest = "x" if voice in hidden else "z"
                length = reference / timings[voice].unit
                cells.insert(0, (voice, f"{opening if index == 0 else ''}{rest}{length}{closing}"))
        lines.append(row.lead + "".join(f"[V:{voice}]{bar}" for voice, bar in cells))
    return lines


def _measure(row: Row, timings: dict[str, Timing], start: Timing) -> tuple[Fraction | None, str, str]:
    """The bar's most common duration and its bar lines; `timings` moves on to behind the bar."""
    durations: Counter[Fraction] = Counter()
    opening, closing = "", ""
    for voice, text in row.cells:
        bar, timing = read_bar(text, timings.get(voice, start))
        if voice in timings:
            timings[voice] = timing
        if bar.duration:
            durations[bar.duration] += 1
        opening = bar.opening or opening
        closing = bar.closing + bar.volta if bar.closing else closing
    commonest = max(durations, key=durations.__getitem__) if durations else None
    return commonest, opening, closing or "|"
