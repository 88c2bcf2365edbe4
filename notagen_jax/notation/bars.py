"""What one voice's bar holds: its exact duration, its notes, its bar lines and its faults."""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from notagen_jax.notation.tokens import Token, tokenize

_MAX_NESTED = 4
_MAX_TUPLET_DIGITS = 3

TUPLET_SLACK = Fraction(1, 64)
"""A tuplet whose sum is this near to a whole number of unit lengths has that length (xml2abc's rounding)."""

_METER = re.compile(r"\(?(\d{1,3}(?:\s*\+\s*\d{1,3})*)\)?\s*/\s*(\d{1,4})\b")
_COMPOUND = re.compile(r"(6|9|12|15)/(8|16|32)\b")
_UNIT = re.compile(r"(\d{1,3})(?:/(\d{1,4}))?")


@dataclass(frozen=True)
class Timing:
    """What a voice's durations depend on: the unit length and the meter's bar, both in whole notes.

    `compound` is whether the meter counts in threes (6/8, 9/8 …), which decides what (5 means.
    """

    unit: Fraction = Fraction(1, 8)
    meter: Fraction | None = Fraction(1)
    compound: bool = False

    def after_field(self, field: str) -> "Timing":
        """Return the timing after a field such as `M:3/4` or `L:1/16`; any other field changes nothing."""
        name, value = field[0], field[2:].strip()
        if name == "L":
            unit = _UNIT.fullmatch(value)
            if unit and int(unit[1]) and int(unit[2] or 1):
                return replace(self, unit=Fraction(int(unit[1]), int(unit[2] or 1)))
        elif name == "M":
            compound = _COMPOUND.match(value) is not None
            return replace(self, meter=meter_length(value), compound=compound)
        return self


def meter_length(meter: str) -> Fraction | None:
    """Return a bar's length in whole notes for the value of an `M:` field, None for a free meter."""
    if meter in ("C", "C|"):
        return Fraction(1)
    match = _METER.search(meter)
    if match is None or int(match[2]) == 0:
        return None
    return Fraction(sum(int(beats) for beats in match[1].split("+")), int(match[2]))


@dataclass(frozen=True)
class Bar:
    """One voice's bar as read.

    `duration` is in whole notes, None where the bar cannot be counted. `notes` are the sounding
    note heads, grace notes and every note of a chord included. `opening` and `closing` are the bar
    lines at its ends, `volta` the ending's number behind the closing one; `faults` describes what is
    wrong, in reading order.
    """

    duration: Fraction | None
    notes: int
    opening: str
    closing: str
    volta: str
    faults: tuple[str, ...]


def read_bar(text: str, timing: Timing) -> tuple[Bar, Timing]:
    """Read one voice's bar; return it with the timing that holds behind it."""
    reader = _Reader(timing)
    tokens = list(tokenize(text))
    opening, closing, volta = _bar_lines(tokens, reader)
    for token in tokens:
        reader.read(token)
    return reader.bar(opening, closing, volta), reader.timing


def _bar_lines(tokens: list[Token], reader: "_Reader") -> tuple[str, str, str]:
    """Find the bar lines at both ends, and the volta behind; a bar line in the middle is a fault."""
    music = [index for index, token in enumerate(tokens) if token.kind in ("note", "rest", "spacer")]
    first, last = (music[0], music[-1]) if music else (len(tokens), -1)
    lines = [index for index, token in enumerate(tokens) if token.kind == "bar_line"]
    before = [index for index in lines if index < first]
    behind = [index for index in lines if index > last]
    if not music:  # an empty bar: its only bar line is the one that closes it
        before, behind = lines[:-1], lines[-1:]
    for _ in range(len(lines) - len(before) - len(behind)):
        reader.fault("a bar line inside the bar")
    opening = "".join(tokens[index].text for index in before)
    closing = "".join(tokens[index].text for index in behind)
    volta = (
        "".join(token.text for token in tokens[behind[-1] + 1 :] if token.kind == "volta") if behind else ""
    )
    return opening, closing, volta


@dataclass
class _Tuplet:
    """An open tuplet: how its notes are scaled, how many are still to come, and their sum so far."""

    scale: Fraction
    missing: int
    text: str
    total: Fraction = Fraction(0)


class _Reader:
    """Adds up one bar, token by token."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self._faults: list[str] = []
        self._countable = True
        self._layers = [Fraction(0)]  # in whole notes; more than one where `&` overlays voices
        self._tuplets: list[_Tuplet] = []
        self._last: Fraction | None = None  # the note before, in unit lengths, for broken rhythm
        self._broken = Fraction(1)
        self._notes = 0
        self._grace = False
        self._chord: list[Fraction] | None = None
        self._chord_rest = False

    def fault(self, description: str, countable: bool = False) -> None:
        """Note a fault; unless `countable`, the bar's duration is unknown from then on."""
        self._faults.append(description)
        self._countable = self._countable and countable

    def read(self, token: Token) -> None:
        """Take one token; bar lines, voltas and marks have no duration."""
        if token.kind == "fault":
            self.fault(token.text)
        elif token.kind == "note" or (token.kind == "rest" and token.text[-1] in "zx"):
            self._stem(token)
        elif token.kind == "rest":
            self._full_rest(token)
        elif token.kind == "field":
            if token.text[1] in "Vr":
                self.fault(f"a misplaced field {token.text[:20]}", countable=True)
            self.timing = self.timing.after_field(token.text[1:-1])
        elif token.kind == "tuplet":
            self._open_tuplet(token.text)
        elif token.kind == "broken":
            self._break(token.text)
        elif token.kind in ("grace_open", "grace_close"):
            self._turn_grace(token.kind == "grace_open")
        elif token.kind == "chord_open":
            if self._chord is not None:
                self.fault("an unclosed chord")
            self._chord, self._chord_rest = [], False
        elif token.kind == "chord_close":
            self._close_chord(token.length)
        elif token.kind == "overlay":
            self._layers.append(Fraction(0))
            self._last = None

    def bar(self, opening: str, closing: str, volta: str) -> Bar:
        """Close the bar: what is still open is a fault."""
        if self._chord is not None:
            self.fault("an unclosed chord")
        if self._grace:
            self.fault("unclosed grace notes")
        if self._broken != 1:
            self.fault("a broken rhythm without a second note")
        for tuplet in self._tuplets:
            self.fault(f"the tuplet {tuplet.text} lacks {tuplet.missing} of its notes")
        if not closing:
            self.fault("no bar line at the end", countable=True)
        if any(layer != self._layers[0] for layer in self._layers):
            self.fault("overlaid voices of unequal length")
        duration = self._layers[0] if self._countable else None
        return Bar(duration, self._notes, opening, closing, volta, tuple(self._faults))

    def _stem(self, token: Token) -> None:
        if token.kind == "note":
            self._notes += 1
        if self._chord is not None:
            self._chord.append(token.length)
        elif not self._grace:
            self._sound(token.length)

    def _full_rest(self, token: Token) -> None:
        """`Z` rests for a bar of the meter, `Zn` for n bars, which one bar cannot hold."""
        if token.length != 1:
            self.fault(f"a rest of {token.length} bars inside one bar")
        elif self.timing.meter is None:
            self.fault(f"{token.text} rests for a bar of no known meter")
        else:
            self._sound(self.timing.meter / self.timing.unit)

    def _close_chord(self, length: Fraction) -> None:
        if self._chord is None:
            self.fault("a chord that was never opened")
            return
        inner, self._chord = self._chord, None
        if not inner:
            self.fault("an empty chord")
        elif not self._grace:
            self._sound(inner[0] * length)  # ABC 2.1 §4.17: the first note's length counts

    def _turn_grace(self, opens: bool) -> None:
        if opens == self._grace:
            self.fault("unclosed grace notes" if opens else "grace notes that were never opened")
        self._grace = opens

    def _break(self, signs: str) -> None:
        """`a>b` lengthens a and shortens b; doubled and tripled signs do it by more."""
        if self._grace or self._chord is not None or self._last is None or len(signs) > 3:
            self.fault(f"a misplaced {signs!r}")
            return
        short = Fraction(1, 2 ** len(signs))
        first, self._broken = (2 - short, short) if signs[0] == ">" else (short, 2 - short)
        self._add(self._last * (first - 1))

    def _sound(self, length: Fraction) -> None:
        """Add a note, chord or rest of `length` unit lengths, as written."""
        self._add(length * self._broken)
        self._last, self._broken = length, Fraction(1)
        for tuplet in self._tuplets:
            tuplet.missing -= 1
        done = [index for index, tuplet in enumerate(self._tuplets) if tuplet.missing == 0]
        if done:
            if any(tuplet.missing > 0 for tuplet in self._tuplets[done[0] :]):
                self.fault("tuplets that overlap")
            while len(self._tuplets) > done[0]:
                self._close_tuplet()

    def _add(self, length: Fraction) -> None:
        if self._tuplets:
            self._tuplets[-1].total += length
        else:
            self._layers[-1] += length * self.timing.unit

    def _open_tuplet(self, text: str) -> None:
        numbers = [
            int(number) if number else 0
            for number in text[1:].split(":")
            if len(number) <= _MAX_TUPLET_DIGITS
        ]
        notes = numbers[0] if numbers else 0
        time = numbers[1] if len(numbers) > 1 and numbers[1] else self._default_time(notes)
        count = numbers[2] if len(numbers) > 2 and numbers[2] else notes
        given_zero = any(number.strip("0") == "" for number in text[1:].split(":") if number)
        if not time or not count or given_zero or len(self._tuplets) == _MAX_NESTED:
            self.fault(f"the tuplet {text} means nothing")
            return
        self._tuplets.append(_Tuplet(Fraction(time, notes), count, text))

    def _default_time(self, notes: int) -> int | None:
        """How many notes' time p notes fill when the tuplet does not say (ABC 2.1 §4.13)."""
        fixed = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}
        return fixed.get(notes, (3 if self.timing.compound else 2) if notes in (5, 7, 9) else None)

    def _close_tuplet(self) -> None:
        tuplet = self._tuplets.pop()
        total = tuplet.total * tuplet.scale
        whole = Fraction(round(float(total)))
        self._add(whole if abs(total - whole) <= TUPLET_SLACK else total)
