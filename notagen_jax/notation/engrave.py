"""MusicXML to pages, sound and print: SVG, MIDI and PDF without a notation program installed."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.notation.musicxml import MusicXML, patience

ENGRAVED_FORMATS = ("svg", "midi", "pdf")


@dataclass(frozen=True)
class Engraving:
    """What was asked for: SVG pages (empty otherwise), MIDI and PDF bytes (None otherwise)."""

    svg: tuple[str, ...]
    midi: bytes | None
    pdf: bytes | None


def engrave(
    score: MusicXML,
    formats: Iterable[str] = ENGRAVED_FORMATS,
    title: str | None = None,
    composer: str | None = None,
    subtitle: str | None = None,
    timeout_s: float | None = None,
) -> Engraving:
    """Engrave a score on A4 pages, the title block above the first system.

    Raises `NotaGenError` when a format is unknown, or verovio fails, crashes, takes longer than
    `timeout_s` seconds (by default `patience` of its notes), or shows fewer notes than the score
    has; likewise for MIDI without notes.
    """
    formats = list(formats)
    unknown = [name for name in formats if name not in ENGRAVED_FORMATS]
    if unknown:
        raise NotaGenError(f"unknown format {unknown[0]!r}: choose from {', '.join(ENGRAVED_FORMATS)}")
    request = {
        "document": score.document,
        "notes": score.notes,
        "formats": formats,
        "title": title,
        "composer": composer,
        "subtitle": subtitle,
    }
    answer = _ask_engraver(json.dumps(request), patience(score.notes) if timeout_s is None else timeout_s)
    if "error" in answer:
        raise NotaGenError(f"no engraving: {answer['error']}")
    midi = base64.b64decode(answer["midi"]) if "midi" in answer else None
    if midi is not None and note_ons(midi) == 0:
        raise NotaGenError("no engraving: verovio's MIDI holds no notes")
    pdf = base64.b64decode(answer["pdf"]) if "pdf" in answer else None
    return Engraving(svg=tuple(answer.get("svg", ())), midi=midi, pdf=pdf)


def _ask_engraver(request: str, timeout_s: float) -> dict:
    command = [sys.executable, "-m", "notagen_jax.notation.engraver"]
    # The child must find this very package, also where the parent was told of it by sys.path alone.
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    try:
        run = subprocess.run(
            command,
            input=request.encode(),
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "PYTHONPATH": paths},
        )
    except subprocess.TimeoutExpired as error:
        raise NotaGenError(f"no engraving: verovio was still busy after {timeout_s:g} s") from error
    if run.returncode < 0:
        raise NotaGenError(f"no engraving: the engraver crashed (signal {-run.returncode})")
    try:
        return json.loads(run.stdout)
    except ValueError as error:
        lines = run.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit status {run.returncode}"
        raise NotaGenError(f"no engraving: the engraver failed ({reason})") from error


def note_ons(midi: bytes) -> int:
    """The number of note-on events with a velocity above 0 in a Standard MIDI File.

    Raises `NotaGenError` when the bytes are no Standard MIDI File.
    """
    if midi[:4] != b"MThd" or len(midi) < 14:
        raise NotaGenError("not a Standard MIDI File: it does not start with MThd")
    count, position = 0, 8 + int.from_bytes(midi[4:8], "big")
    while position + 8 <= len(midi):
        size = int.from_bytes(midi[position + 4 : position + 8], "big")
        if midi[position : position + 4] == b"MTrk":
            count += _track_note_ons(midi[position + 8 : position + 8 + size])
        position += 8 + size
    return count


def _track_note_ons(track: bytes) -> int:
    count, position, status = 0, 0, 0
    try:
        while position < len(track):
            _, position = _variable_length(track, position)
            if track[position] & 0x80:
                status = track[position]
                position += 1
            if status == 0xFF or status in (0xF0, 0xF7):
                position += status == 0xFF  # the meta event's type
                size, position = _variable_length(track, position)
                position += size
            else:
                count += status & 0xF0 == 0x90 and track[position + 1] > 0
                position += 1 if status & 0xF0 in (0xC0, 0xD0) else 2
    except IndexError as error:
        raise NotaGenError("not a Standard MIDI File: a track ends inside an event") from error
    return count


def _variable_length(track: bytes, position: int) -> tuple[int, int]:
    value = 0
    while True:
        byte = track[position]
        value, position = value << 7 | byte & 0x7F, position + 1
        if not byte & 0x80:
            return value, position
