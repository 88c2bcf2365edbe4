"""Rewrites legal MusicXML that stops xml2abc, or leaks into its music lines, into what it can read.

Nothing here changes the ABC of a score that the converter reads by itself; that is what the
byte-for-byte comparison with the official pipeline rests on.
"""

from collections.abc import Callable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

_LINES = ("wedge", "octave-shift", "pedal")
_LINE_TYPES = ("down", "up", "crescendo", "diminuendo", "start", "stop")
_ACCIDENTALS = {"natural-flat": "flat", "natural-sharp": "sharp"}


def normalised(document: bytes) -> ElementTree.ElementTree:
    """Parse a partwise MusicXML document and rewrite the constructs that `RULES` are for."""
    root = ElementTree.fromstring(document)
    for rule in RULES:
        rule(root)
    return ElementTree.ElementTree(root)


def drop_lyrics(root: Element) -> None:
    """Lyrics leave the text in the clean-up anyway; a line break inside one would pass as music."""
    for note in root.iter("note"):
        for lyric in note.findall("lyric"):
            note.remove(lyric)


def drop_going_lines(root: Element) -> None:
    """Pedal, wedge and octave lines that only go on (`continue`, `change` …) have no ABC."""
    for direction in root.iter("direction-type"):
        for element in list(direction):
            if element.tag in _LINES and element.get("type", "") not in _LINE_TYPES:
                direction.remove(element)


def mark_numberless_tempos(root: Element) -> None:
    """A metronome mark without a number ("quarter = quarter") gets one that is no number."""
    for metronome in root.iter("metronome"):
        number = metronome.find("per-minute")
        if number is None:
            number = ElementTree.SubElement(metronome, "per-minute")
        number.text = number.text or "?"


def plain_accidentals(root: Element) -> None:
    """A cautionary natural before a flat or a sharp is that flat or sharp."""
    for accidental in root.iter("accidental"):
        accidental.text = _ACCIDENTALS.get(accidental.text or "", accidental.text)


def sum_composite_meters(root: Element) -> None:
    """A meter of summed beats (3+4 over 8) becomes the meter of their sum."""
    for beats in root.iter("beats"):
        parts = (beats.text or "").split("+")
        if len(parts) > 1 and all(part.strip().isdecimal() for part in parts):
            beats.text = str(sum(map(int, parts)))


def move_marks_from_empty_staves(root: Element) -> None:
    """Directions, chord symbols and clefs of a staff without notes: to the part's first staff with notes."""
    for part in root.findall("part"):
        staves = sorted({note.findtext("staff", "1") for note in part.findall("measure/note")})
        for measure in part.findall("measure"):
            for element in list(measure):
                if element.tag == "attributes":
                    for clef in element.findall("clef"):
                        if clef.get("number", "1") not in staves:
                            element.remove(clef)
                elif element.tag in ("direction", "harmony", "sound"):
                    _move(measure, element, staves)


def _move(measure: Element, element: Element, staves: list[str]) -> None:
    if element.findtext("staff", "1") in staves:
        return
    if not staves:
        measure.remove(element)
        return
    staff = element.find("staff")
    if staff is None:
        staff = ElementTree.SubElement(element, "staff")
    staff.text = staves[0]


RULES: tuple[Callable[[Element], None], ...] = (
    drop_lyrics,
    drop_going_lines,
    mark_numberless_tempos,
    plain_accidentals,
    sum_composite_meters,
    move_marks_from_empty_staves,
)
"""The rewrites, in the order they are applied."""
