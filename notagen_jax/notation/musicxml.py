"""ABC to MusicXML by abc2xml, with its silent failures turned into errors.

abc2xml always returns a document, also where it skipped half of the music, and ends with status 0.
So the sounding notes are counted on both sides, and its complaints are read.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from xml.etree import ElementTree

from notagen_jax.errors import NotaGenError
from notagen_jax.notation.restore import for_viewing
from notagen_jax.notation.validity import check

_DOCTYPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 3.0 Partwise//EN" '
    '"http://www.musicxml.org/dtds/partwise.dtd">\n'
)
_ROUTINE = re.compile(r"-- (decoded from|done in|skipped header: \(field X)")
_LOST = re.compile(
    r"misplaced symbol|exception occurred|[Ss]yntax error|Expected|error in broken rhythm|Traceback"
)
# abc2xml takes any % for a comment, and reads no field between grace notes.
_PERCENT, _PERCENT_STANDS_AS = "%", "\N{FULLWIDTH PERCENT SIGN}"
_GRACE = re.compile(r"\{[^{}|]*\}")
_STAFF_FIELD = re.compile(r"\[I:staff[^\]]*\]\s*")
_MAX_DIGITS = re.compile(r"\d{7,}")


@dataclass(frozen=True)
class MusicXML:
    """A MusicXML document, its sounding notes (tied and grace notes each count), and abc2xml's warnings."""

    document: str
    notes: int
    warnings: tuple[str, ...]


def to_musicxml(
    interleaved: str, title: str | None = None, composer: str | None = None, timeout_s: float | None = None
) -> MusicXML:
    """Convert interleaved ABC (rests restored) into MusicXML; `title` and `composer` go into its head.

    Raises `NotaGenError` with the reason when abc2xml fails, takes longer than `timeout_s` seconds
    (by default `patience` of its notes), skips a symbol, or returns another number of notes than the ABC has.
    """
    validity = check(interleaved)
    because = f" (first fault: {validity.first_fault})" if validity.faults else ""
    if validity.notes == 0:
        raise NotaGenError(f"no MusicXML: the piece has no notes{because}")
    if _MAX_DIGITS.search(interleaved):
        raise NotaGenError(f"no MusicXML: the piece has a number of seven or more digits{because}")
    timeout_s = patience(validity.notes) if timeout_s is None else timeout_s
    output, complaints = _abc2xml(_digestible(for_viewing(interleaved)), timeout_s, because)
    lost = next((line for line in complaints if _LOST.search(line)), None)
    try:
        score = ElementTree.fromstring(output)
    except ElementTree.ParseError as error:
        reason = lost or (complaints[0] if complaints else str(error))
        raise NotaGenError(f"no MusicXML: abc2xml wrote no document, {reason}{because}") from error
    notes = count_notes(score)
    if notes != validity.notes:
        raise NotaGenError(f"no MusicXML: the ABC has {validity.notes} notes, abc2xml kept {notes}{because}")
    if lost is not None:
        raise NotaGenError(
            f"no MusicXML: abc2xml could not read all of the music, {lost.strip('*- ')}{because}"
        )
    _set_head(score, title, composer)
    ElementTree.indent(score)
    document = ElementTree.tostring(score, encoding="unicode").replace(_PERCENT_STANDS_AS, _PERCENT)
    return MusicXML(f"{_DOCTYPE}{document}\n", notes, tuple(complaints))


def patience(notes: int) -> float:
    """Seconds to grant a tool for a piece of so many notes: several times what a busy machine takes."""
    return 120.0 + 0.1 * notes


def count_notes(score: ElementTree.Element) -> int:
    """The number of sounding notes of a MusicXML document: `<note>` elements with a pitch, tied ones each."""
    return sum(
        note.find("pitch") is not None or note.find("unpitched") is not None for note in score.iter("note")
    )


def _abc2xml(tune: str, timeout_s: float, because: str) -> tuple[str, list[str]]:
    """Run abc2xml in a process of its own: it can recurse or loop without end on broken text."""
    command = [sys.executable, "-W", "ignore", "-m", "abctoolkit.abc2xml", "-"]
    try:
        run = subprocess.run(
            command, input=tune.encode(), capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotaGenError(f"no MusicXML: abc2xml was still busy after {timeout_s:g} s{because}") from error
    lines = run.stderr.decode(errors="replace").replace(_PERCENT_STANDS_AS, _PERCENT).splitlines()
    complaints = [line.strip() for line in lines if line.strip() and not _ROUTINE.match(line)]
    if run.returncode != 0 or not run.stdout.strip():
        reason = complaints[-1] if complaints else f"exit status {run.returncode} and no output"
        if "No module named" in reason:
            reason += "; pip install abctoolkit pyparsing"
        raise NotaGenError(f"no MusicXML: abc2xml failed, {reason}{because}")
    return run.stdout.decode(errors="replace"), complaints


def _digestible(tune: str) -> str:
    """The tune without legal text that abc2xml misreads."""
    lines = []
    for line in tune.splitlines():
        if not line.startswith("%%"):
            line = line.replace(_PERCENT, _PERCENT_STANDS_AS)
            line = _GRACE.sub(_fields_behind, line)
        if line.startswith("V:"):
            line = line.replace("\\n", " ")  # xml2abc's sign for a line break in an instrument's name
        lines.append(line)
    return "\n".join(lines) + "\n"


def _fields_behind(grace: re.Match[str]) -> str:
    return _STAFF_FIELD.sub("", grace[0]) + "".join(_STAFF_FIELD.findall(grace[0]))


def _set_head(score: ElementTree.Element, title: str | None, composer: str | None) -> None:
    """Put title and composer in; take the date out, so that the same piece gives the same document."""
    for encoding in score.iter("encoding"):
        for date in encoding.findall("encoding-date"):
            encoding.remove(date)
    if title:
        for work in score.findall("work"):
            score.remove(work)
        work = ElementTree.Element("work")
        ElementTree.SubElement(work, "work-title").text = title
        score.insert(0, work)
    identification = score.find("identification")
    if composer and identification is not None:
        creator = ElementTree.Element("creator", type="composer")
        creator.text = composer
        identification.insert(0, creator)
