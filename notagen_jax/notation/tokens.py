"""The words of one ABC bar: notes, rests, chord and grace brackets, tuplets, fields, bar lines.

The reader never stops at bad text: what it cannot place becomes a token of kind `fault`, because
generated bars are broken in every way a language model can think of, and each fault must be named.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_LENGTH = r"(?P<{0}_number>\d*)(?P<{0}_slashes>/*)(?P<{0}_below>\d*)"

# In order of preference: a quote hides everything in it, a field is not a chord, a bar line is not a bracket.
_TOKEN = re.compile(
    "|".join(
        (
            r'(?P<annotation>"[^"]*")',
            r"(?P<decoration>!\+!|![^!\s\"|\[\]]+!)",
            r"(?P<field>\[[A-Za-z]:[^\]]*\])",
            r"(?P<bar_line>\.\||\[\||:+\|+[\]|:]*|\|[\]|:]*|::)[\]:]*",
            r"(?P<volta>\[(?=\d))",
            r"(?P<tuplet>\(\d+(?::\d*){0,2})",
            r"(?P<note>(?:\^\^|__|[\^_=])?[A-Ga-g][,']*)" + _LENGTH.format("note"),
            r"(?P<rest>(?:\^\^|__|[\^_=])?[zxZX])" + _LENGTH.format("rest"),
            r"(?P<spacer>y[\d/]*)",
            r"(?P<broken>>+|<+)",
            r"(?P<grace_open>\{/?)|(?P<grace_close>\})",
            r"(?P<open_field>\[[A-Za-z]:)",
            r"(?P<chord_open>\[)|(?P<chord_close>\])" + _LENGTH.format("chord"),
            r"(?P<overlay>&+)",
            r"(?P<mark>[H-Wh-w~.()\-$`\s])",
            r"(?P<fault>.)",
        )
    ),
    re.DOTALL,
)
_KINDS = (
    "annotation", "decoration", "field", "bar_line", "volta", "tuplet", "note", "rest", "spacer", "broken",
    "grace_open", "grace_close", "open_field", "chord_open", "chord_close", "overlay", "mark", "fault",
)  # fmt: skip
_VOLTA = re.compile(r'[\d,.\-]+|\[?"[^"]*"')
_MAX_DIGITS = 6
_MAX_DIVISOR = 4096
"""A length beyond these is a run-away number; sums of such fractions would take minutes."""

_UNCLOSED = {'"': "an unclosed quote", "!": "an unclosed decoration"}


@dataclass(frozen=True)
class Token:
    """One word of a bar; notes, rests and chord ends have a length, in unit lengths."""

    kind: str
    text: str
    length: Fraction = Fraction(1)


def tokenize(bar: str) -> Iterator[Token]:
    """Yield the tokens of one voice's bar, bar lines and the voltas behind them included.

    Marks without duration (slurs, ties, staccato, one-letter decorations, spaces) have the kind
    `mark`. Unreadable text has the kind `fault`; its `text` is then the description. ABC 2.1 §4.
    """
    position = 0
    while position < len(bar):
        match = _TOKEN.match(bar, position)
        assert match is not None  # the last alternative matches any character
        kind = next(name for name in _KINDS if match[name] is not None)
        text = match[0]
        position = match.end()
        if kind == "open_field":
            yield Token("fault", f"an unclosed field {text}")
        elif kind == "fault":
            yield Token("fault", _UNCLOSED.get(text, f"a stray {text!r}"))
            if text == '"':
                return  # what stands in the open quote is no music
        elif kind in ("note", "rest", "chord_close"):
            prefix = "chord" if kind == "chord_close" else kind
            length = _length(match[f"{prefix}_number"], match[f"{prefix}_slashes"], match[f"{prefix}_below"])
            if length is None:
                yield Token("fault", f"a length that is none in {text[:20]!r}")
            yield Token(kind, match[kind], Fraction(1) if length is None else length)
        else:
            yield Token(kind, text)
        if kind in ("bar_line", "volta"):
            volta = _VOLTA.match(bar, position)
            if volta is not None:
                position = volta.end()
                yield Token("volta", volta[0])


def _length(number: str, slashes: str, below: str) -> Fraction | None:
    """The length that ABC writes as `3`, `/`, `//`, `3/2`, `/4`; None where it is zero or has no meaning."""
    if max(len(number), len(below), len(slashes)) > _MAX_DIGITS:
        return None
    above = int(number) if number else 1
    if below and not slashes:
        return None
    divisor = int(below) * 2 ** (len(slashes) - 1) if below else 2 ** len(slashes)
    if above == 0 or not 0 < divisor <= _MAX_DIVISOR:
        return None
    return Fraction(above, divisor)
