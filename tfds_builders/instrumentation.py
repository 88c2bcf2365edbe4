"""What a piece is written for, from the names and staves of its parts.

Parts are those of the ABC header: a named voice (`nm="…"`) begins one, unnamed staves in the same
brace belong to it. The rules, in order, with v vocal parts, k keyboards, o other instruments
(a continuo counts for none of them):

| parts | label |
|---|---|
| keyboards alone, named so or a brace of staves without a name | Keyboard |
| 1 or 2 voices, with at most two instruments beside the keyboard | Art Song |
| 2 voices alone; 3 or more, with at most two instruments beside the keyboard | Choral |
| any voices with three or more instruments | Vocal-Orchestral |
| no voices, up to nine parts, no timpani | Chamber |
| no voices, ten parts or more, or timpani among others | Orchestral |

Anything else, and any part without a telling name ("Part 1") that is no brace of staves, gives no label.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

MOST_IN_CHAMBER = 9
MOST_OBBLIGATO = 2

_VOICES = (
    r"sopranos?|soprani|sopran|altos?|alti|alt|altus|contraltos?|mezzo\w*|tenors?|tenore|tenori|tenor\w?s|"
    r"bariton\w*|barytone?|basses|bass|basso|bassus|bassi|cant[uo]s?|superius|discantus|quint[uo]s?|sext[uo]s?|"
    r"voices?|voix|voce|voci|vocals?|stimmen?|singstimmen?|gesang|chant|zang|s[åa]ng|singer|solo voice"
)
_CHOIRS = r"choirs?|chorus|ch[oœ]urs?|chor|coro|satb|choeur"
_KEYBOARDS = (
    r"pianos?|pianoforte|piano\w*|fortepiano|klavier|clavier|hammerklavier|harpsichord|cembalo|clavecin|"
    r"clavichord|virginal|orga\w+|orgel|orgue|keyboards?|celesta|harmonium|manual\w*|pedals?|pno"
)
_CONTINUO = r"(basso )?continuo|b\.? ?c\.?|generalbass|thoroughbass"
_BESIDE_VOICES = r"bass|basso|bassi|basses"  # a voice among voices, else a double bass
# Instruments whose names hold a voice's name.
_INSTRUMENTS = (
    r"sax\w*|clarinet\w*|klarinette\w*|flutes?|fl[oö]te\w*|recorders?|trombon\w*|posaunen?|horns?|drums?|"
    r"guitars?|oboe?s?|viol\w*|tubas?|trumpets?|gamba\w*|bassoons?|fagott\w*|dulcian"
)
_GENERIC = r"(music ?xml )?(part|staff|instrument|track|spine|untitled|unnamed|p)[ _-]*\d*"
_TIMPANI = r"timp\w*|kettle ?drums?|pauken|timbales"

_SYMBOL = re.compile(r"[\[\]{}()|]|\d+")
_NAME = re.compile(r'nm="([^"]*)')


class Part(NamedTuple):
    """One part: its name ('' without one) and its number of staves."""

    name: str
    staves: int


def parts_of(lines: Iterable[str]) -> list[Part]:
    """The parts that an ABC header declares: `%%score` and the `V:` lines with their names."""
    score = ""
    names: dict[str, str] = {}
    for line in lines:
        if line.startswith("%%score"):
            score = line[len("%%score") :]
        elif line.startswith("V:") and (number := re.match(r"V:(\d+)", line)):
            found = _NAME.search(line)
            name = re.sub(r"\\n|[\s:.]+", " ", found.group(1)).strip().lower() if found else ""
            names.setdefault(number.group(1), name)
    parts: list[Part] = []
    braces = 0
    shared = False  # whether the next unnamed staff belongs to the part before it
    inside = None  # voices in round brackets share the staff of the first
    for symbol in _SYMBOL.findall(score) or list(names):
        if symbol == "{":
            braces, shared = braces + 1, False
        elif symbol == "}":
            braces, shared = braces - 1, False
        elif symbol == "(":
            inside = False
        elif symbol == ")":
            inside = None
        elif symbol.isdigit():
            if inside:
                continue
            inside = True if inside is not None else None
            name = names.get(symbol, "")
            if braces and shared and name in ("", parts[-1].name):
                parts[-1] = Part(parts[-1].name, parts[-1].staves + 1)
            else:
                parts.append(Part(name, 1))
            shared = braces > 0
    return parts


def instrumentation_of(lines: Iterable[str]) -> str:
    """The instrumentation label that follows from an ABC header's parts; '' when none does."""
    parts = parts_of(lines)
    if not parts:
        return ""
    kinds = [_kind(part, parts) for part in parts]
    if "" in kinds:
        return ""
    voices = kinds.count("voice") + 4 * kinds.count("choir")
    keyboards, others = kinds.count("keyboard"), kinds.count("other")
    if not voices:
        if not others:
            return "Keyboard" if keyboards else ""
        timpani = len(parts) > 2 and any(_is(_TIMPANI, part.name) for part in parts)
        return "Orchestral" if others + keyboards > MOST_IN_CHAMBER or timpani else "Chamber"
    if others > MOST_OBBLIGATO:
        return "Vocal-Orchestral"
    alone = not (others or keyboards or "continuo" in kinds)
    return "Choral" if voices > 2 or (voices == 2 and alone) else "Art Song"


def _kind(part: Part, parts: list[Part]) -> str:
    """voice, choir, keyboard, continuo or other; '' for a part without a name that is no brace of staves."""
    name = part.name
    if not name or re.fullmatch(_GENERIC, name):
        return "keyboard" if part.staves > 1 else ""
    if _is(_CONTINUO, name):
        return "continuo"
    if _is(_INSTRUMENTS, name):
        return "other"
    if _is(_KEYBOARDS, name):
        return "keyboard"
    if _is(_CHOIRS, name):
        return "choir"
    if _is(_VOICES, name) or re.fullmatch(r"(s|a|t|b|m|c)( ?\d| ?i{1,3})?", name):
        among = any(_is(_VOICES, other.name) and not _is(_BESIDE_VOICES, other.name) for other in parts)
        return "other" if _is(_BESIDE_VOICES, name) and not among else "voice"
    return "other"


def _is(words: str, name: str) -> bool:
    return re.search(rf"(?<!\w)({words})(?!\w)", name) is not None
