"""Readers that this project did not write, as judges of a piece: abc2midi, verovio and music21.

None of the three reads a generated piece the way this package does, so what all of them take is a
score that opens elsewhere too. Every verdict is None, or why the reader does not take the piece.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.notation import for_viewing
from notagen_jax.notation.engrave import engrave
from notagen_jax.notation.musicxml import MusicXML, patience

READERS = ("abc2midi", "verovio", "music21")


def check_installed() -> None:
    """Raises `NotaGenError` naming a reader that is missing and how to install it."""
    if shutil.which("abc2midi") is None:
        raise NotaGenError("abc2midi is not installed; install the system package abcmidi")
    try:
        import music21  # noqa: F401
    except ImportError as error:
        raise NotaGenError("music21 is not installed; run `pip install 'notagen-jax[kern]'`") from error


def abc2midi_fault(interleaved: str) -> str | None:
    """What abc2midi (`-c -NFER`) says against interleaved ABC: an error, or a bar of a wrong length.

    Its warnings alone are common in good scores and do not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tune.abc"
        path.write_text(for_viewing(interleaved), encoding="utf-8")
        try:
            run = subprocess.run(
                ["abc2midi", path.name, "-c", "-NFER"],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                cwd=folder,
                timeout=patience(0),
            )
        except subprocess.TimeoutExpired:
            return "still busy"
    if run.returncode < 0:
        return f"crashed (signal {-run.returncode})"
    lines = (run.stdout + run.stderr).splitlines()
    return next((line for line in lines if "Error" in line or "quarter notes long not" in line), None)


def verovio_fault(score: MusicXML) -> str | None:
    """Why verovio does not engrave a document, or shows another number of notes."""
    try:
        engrave(score, ("svg", "midi"))
    except NotaGenError as error:
        return str(error)
    return None


def music21_fault(score: MusicXML) -> str | None:
    """Why music21 does not read a document, or reads another number of notes.

    A note of a chord counts by itself; tied and grace notes count each.
    """
    from music21 import converter, exceptions21
    from music21.musicxml.xmlObjects import MusicXMLException

    try:
        stream = converter.parseData(score.document, format="musicxml")
    except (exceptions21.Music21Exception, MusicXMLException, ValueError, LookupError, TypeError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    found = sum(len(note.pitches) or 1 for note in stream.recurse().notes)
    return None if found == score.notes else f"it reads {found} of {score.notes} notes"
