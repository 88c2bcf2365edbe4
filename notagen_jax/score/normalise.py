"""Rewrites legal MusicXML that stops xml2abc, or leaks into its music lines, into what it can read.

Nothing here changes the ABC of a score that the converter reads by itself; that is what the
byte-for-byte comparison with the official pipeline rests on.
"""

from collections.abc import Callable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from notagen_jax.score.refusal import ScoreError

_LINES = ("wedge", "octave-shift", "pedal")
_LINE_TYPES = ("down", "up", "crescendo", "diminuendo", "start", "stop")
_MODES = ("maj", "min", "m", "ion", "dor", "phr", "lyd", "mix", "aeo", "loc", "non")
_LONGEST_OCTAVE = 3
_ACCIDENTALS = {"natural-flat": "flat", "natural-sharp": "sharp"}


def normalised(document: bytes) -> ElementTree.ElementTree:
    """Parse a MusicXML document and rewrite the constructs that `RULES` and empty staves are for.

    Raises `ScoreError` when it is not well formed, or a rule refuses it.
    """
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError as error:
        raise ScoreError(
            "not well-formed XML", f"line {error.position[0]}: {error.msg.split(':')[0]}"
        ) from error
    if root.tag == "score-timewise":
        turn_partwise(root)
    for part in root.findall("part"):
        for measure in part.findall("measure"):
            for element in measure:
                for rule in RULES.get(element.tag, ()):
                    rule(element)
        move_marks_from_empty_staves(part)
    return ElementTree.ElementTree(root)


def turn_partwise(root: Element) -> None:
    """A score written measure by measure, each with its parts, becomes one of parts with their measures."""
    parts: dict[str, Element] = {}
    for measure in root.findall("measure"):
        root.remove(measure)
        for part in measure.findall("part"):
            name = part.get("id", "")
            if name not in parts:
                parts[name] = ElementTree.SubElement(root, "part", {"id": name})
            part.tag, part.attrib = "measure", dict(measure.attrib)
            parts[name].append(part)
    root.tag = "score-partwise"


def drop_lyrics(note: Element) -> None:
    """Lyrics leave the text in the clean-up anyway; a line break inside one would pass as music."""
    for lyric in note.findall("lyric"):
        note.remove(lyric)


def refuse_absurd_octaves(note: Element) -> None:
    """A damaged octave would become as many octave marks. Raises `ScoreError`."""
    pitch = note.find("pitch")
    octave = "" if pitch is None else pitch.findtext("octave", "")
    if len(octave) > _LONGEST_OCTAVE:
        raise ScoreError("a note's octave is out of all bounds", octave[:20])


def plain_accidentals(note: Element) -> None:
    """A cautionary natural before a flat or a sharp is that flat or sharp."""
    for accidental in note.findall("accidental"):
        accidental.text = _ACCIDENTALS.get(accidental.text or "", accidental.text)


def drop_going_lines(direction: Element) -> None:
    """Pedal, wedge and octave lines that only go on (`continue`, `change` …) have no ABC.

    All pedal marks of a score go to the voice of the first, so one that goes on stays as the end of a line
    that began nowhere: of that nothing is written.
    """
    for kind in direction.findall("direction-type"):
        for element in list(kind):
            if element.tag not in _LINES or element.get("type", "") in _LINE_TYPES:
                continue
            if element.tag == "pedal":
                element.set("type", "stop")
                element.set("number", "going on")
            else:
                kind.remove(element)


def mark_numberless_tempos(direction: Element) -> None:
    """A metronome mark without a number ("quarter = quarter") gets one that is no number."""
    for kind in direction.findall("direction-type"):
        for metronome in kind.findall("metronome"):
            number = metronome.find("per-minute")
            if number is None:
                number = ElementTree.SubElement(metronome, "per-minute")
            number.text = number.text or "?"


def sum_composite_meters(attributes: Element) -> None:
    """A meter of summed beats (3+4 over 8) becomes the meter of their sum."""
    for beats in attributes.iter("beats"):
        parts = (beats.text or "").split("+")
        if len(parts) > 1 and all(part.strip().isdecimal() for part in parts):
            beats.text = str(sum(map(int, parts)))


def drop_unknown_modes(attributes: Element) -> None:
    """A mode that ABC has no name for (or an empty one) leaves the key its signature alone."""
    for key in attributes.findall("key"):
        for mode in key.findall("mode"):
            if (mode.text or "").lower()[:3] not in _MODES:
                key.remove(mode)


def move_marks_from_empty_staves(part: Element) -> None:
    """Directions, chord symbols and clefs of a staff without notes: to the part's first staff with notes."""
    measures = part.findall("measure")
    staves = sorted({note.findtext("staff", "1") for measure in measures for note in measure.findall("note")})
    for measure in measures:
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


RULES: dict[str, tuple[Callable[[Element], None], ...]] = {
    "note": (drop_lyrics, plain_accidentals, refuse_absurd_octaves),
    "direction": (drop_going_lines, mark_numberless_tempos),
    "attributes": (sum_composite_meters, drop_unknown_modes),
}
"""The rewrites of one element, by its tag."""
