"""Engraving: every note on the page, in the MIDI and in the PDF; a failing engraver is one clear error."""

import base64
import re
import subprocess
import sys

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.notation import restore_rests
from notagen_jax.notation.engrave import engrave, note_ons
from notagen_jax.notation.engraver import render
from notagen_jax.notation.musicxml import MusicXML, to_musicxml
from tests.notation_pieces import piece

SMALL = (
    "%%score { 1 | 2 }\nL:1/8\nQ:1/4=60\nM:4/4\nK:Bb\nV:1 treble\nV:2 bass\n"
    '[V:1]!mf!"^dolce" (3cde f2 [ce]4-|[V:2]B,,8|\n[V:1][ce]8|][V:2]!fermata!B,,8|]\n'
)


@pytest.fixture(scope="module")
def small():
    """Nine written notes, two of them tied on: seven sound anew."""
    return to_musicxml(SMALL)


@pytest.fixture(scope="module")
def engraving(small):
    return engrave(
        small, title="Trio & <Coda>", composer="in the style of Mayer, Emilie", subtitle="Romantic"
    )


def test_every_note_is_drawn(small, engraving):
    assert small.notes == 10
    assert len(engraving.svg) == 1
    assert len(re.findall(r'class="note"', engraving.svg[0])) == 10
    assert 'class="dynam"' in engraving.svg[0]


def test_title_block(engraving):
    for text in ("Trio &amp; &lt;Coda&gt;", "in the style of Mayer, Emilie", "Romantic"):
        assert text in engraving.svg[0]


def test_midi_sounds_each_note_once(engraving):
    assert note_ons(engraving.midi) == 8


def test_pdf_has_the_pages_and_embedded_fonts(engraving):
    assert engraving.pdf.startswith(b"%PDF-1.")
    assert re.findall(rb"/Count (\d+)", engraving.pdf) == [b"1"]
    assert b"Leipzig" in engraving.pdf  # the quarter note of the tempo mark
    assert len(engraving.pdf) > 5000


def test_a_long_piece_fills_several_pages():
    bars = "".join(f"[V:1]{'cdefgabc' * 2}|[V:2]{'CDEFGABC' * 2}|\n" for _ in range(80))
    score = to_musicxml(SMALL.replace("M:4/4", "M:2/1") + bars)
    result = engrave(score, formats=("svg", "pdf"))
    assert len(result.svg) > 1
    assert re.findall(rb"/Count (\d+)", result.pdf) == [str(len(result.svg)).encode()]
    assert result.midi is None


def test_same_score_same_bytes(small, engraving):
    again = engrave(
        small, title="Trio & <Coda>", composer="in the style of Mayer, Emilie", subtitle="Romantic"
    )
    assert again == engraving


def test_bach_chorale():
    result = engrave(to_musicxml(restore_rests(piece("bach_generated"))), formats=("svg", "midi"))
    assert sum(page.count('class="note"') for page in result.svg) == 247
    assert note_ons(result.midi) > 247  # the repeat is played


def test_an_empty_engraving_is_an_error(small):
    answer = dict(document=small.document, formats=["svg"])
    assert render(notes=10, **answer)["svg"]
    with pytest.raises(NotaGenError, match="verovio kept 10 of 11 notes"):
        render(notes=11, **answer)


def test_what_verovio_cannot_read_is_an_error():
    with pytest.raises(NotaGenError, match="verovio cannot read the MusicXML"):
        engrave(MusicXML(document="<score", notes=1, warnings=()))


def test_unknown_format(small):
    with pytest.raises(NotaGenError, match="unknown format 'ps'"):
        engrave(small, formats=("ps",))


def test_time_is_bounded(small):
    with pytest.raises(NotaGenError, match="still busy"):
        engrave(small, timeout_s=0.001)


def test_a_crash_of_the_engraver_is_an_error(small, monkeypatch, tmp_path):
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))
    with pytest.raises(NotaGenError, match=r"the engraver crashed \(signal 11\)"):
        engrave(small)


@pytest.mark.parametrize("data", [b"", b"RIFF" * 8, base64.b64decode("TVRoZAAAAAYAAQABAHhNVHJrAAAAAgCQ")])
def test_note_ons_refuses_what_is_no_midi(data):
    with pytest.raises(NotaGenError, match="not a Standard MIDI File"):
        note_ons(data)


def test_importing_notation_is_light():
    code = (
        "import sys, notagen_jax.notation;"
        "heavy = {'verovio', 'typst', 'abctoolkit', 'jax', 'music21', 'fontTools'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
