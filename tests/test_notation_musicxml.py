"""ABC to MusicXML without silent loss: read back by music21, and refused where abc2xml drops notes."""

import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.notation import for_viewing, restore_rests
from notagen_jax.notation.musicxml import count_notes, to_musicxml
from tests.notation_pieces import as_generated, piece

SMALL = '%%score 1 2\nL:1/8\nM:4/4\nK:C\nV:1 treble nm="Flute\\nI"\nV:2 bass\n'


@pytest.mark.parametrize(
    ("name", "notes", "parts"),
    [("reichardt_nachtlied", 146, 2), ("hensel_nonne", 277, 2), ("bach_generated", 247, 4)],
)
def test_music21_reads_every_note(name, notes, parts):
    import music21

    text = piece(name)
    score = to_musicxml(restore_rests(text if "[r:" in text else as_generated(text)))
    assert score.notes == notes
    stream = music21.converter.parseData(score.document, format="musicxml")
    assert sum(len(element.pitches) for element in stream.recurse().notes) == notes
    staves = [part for part in stream.parts if not isinstance(part, music21.stream.PartStaff)]
    grand = [part for part in stream.parts if isinstance(part, music21.stream.PartStaff)]
    assert len(staves) + len(grand) // 2 == parts


def test_title_composer_and_names():
    document = to_musicxml(
        f"{SMALL}[V:1]c8|[V:2]C,8|\n", title="Lied & <Weise>", composer="Hensel, Fanny"
    ).document
    root = ElementTree.fromstring(document)
    assert root.findtext("work/work-title") == "Lied & <Weise>"
    assert root.findtext("identification/creator[@type='composer']") == "Hensel, Fanny"
    assert root.findtext("part-list/score-part/part-name") == "Flute I"
    assert document.startswith("<?xml")


def test_ties_grace_notes_and_chords_all_count():
    score = to_musicxml(f"{SMALL}[V:1]c4-c4|[V:2]{{/g}}[C,E,G,]8|\n")
    assert score.notes == 6
    assert count_notes(ElementTree.fromstring(score.document)) == 6


def test_legal_text_that_abc2xml_misreads_is_kept():
    text = f'{SMALL}[V:1]"^50% slower" c4 d4|[V:2]{{E,[I:staff -1]G}}C,4 [I:staff +1]D,4|\n'
    score = to_musicxml(text)
    assert score.notes == 6
    assert "50% slower" in score.document


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "( 3 4 ) }",
            "( 3 4 )",
            r"the ABC has 146 notes, abc2xml kept 27 \(first fault: %%score has an unmatched '\{'",
        ),
        ("| ( 3 4 ) }", "| 3 }", r"the ABC has 146 notes, abc2xml kept 141 \(first fault: voice 4"),
        ("[V:3][F,,F,]2 ", "[V:3][F,,F,2 ", r"first fault: bar 2, voice 3: an unclosed chord"),
        (
            "[V:1]A F B A",
            "[V:1]A F ? B A",
            r"misplaced symbol: \? \(first fault: bar 4, voice 1: a stray '\?'",
        ),
        ("[V:1]A F B A", "[V:1]A F9999999999 B A", "a number of seven or more digits"),
    ],
)
def test_lost_music_is_an_error(old, new, reason):
    text = piece("reichardt_nachtlied")
    assert old in text
    with pytest.raises(NotaGenError, match=reason):
        to_musicxml(text.replace(old, new, 1))


def test_a_piece_of_rests_has_no_score():
    with pytest.raises(NotaGenError, match="the piece has no notes"):
        to_musicxml(f"{SMALL}[V:1]z8|[V:2]z8|\n")


def test_time_is_bounded():
    with pytest.raises(NotaGenError, match=r"still busy after 0\.001 s"):
        to_musicxml(piece("hensel_nonne"), timeout_s=0.001)


def abc2midi_complains(program: str, text: str, folder: Path) -> bool:
    """Whether abc2midi, an independent reader, finds an error or bars of unequal length."""
    path = folder / "tune.abc"
    path.write_text(for_viewing(text))
    run = subprocess.run(
        [program, path, "-c", "-NFER"], capture_output=True, text=True, check=False, cwd=folder
    )
    report = run.stdout + run.stderr
    return "Error" in report or "quarter notes long not" in report


def test_abc2midi_agrees_on_sound_and_planted_faults(tmp_path):
    program = shutil.which("abc2midi")
    if program is None:
        missing = "abc2midi is not installed; install the package abcmidi"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    restored = restore_rests(piece("bach_generated"))
    assert not abc2midi_complains(program, restored, tmp_path)
    assert abc2midi_complains(program, restored.replace("[V:2]G2 G2", "[V:2]G2", 1), tmp_path)
    assert abc2midi_complains(program, restored.replace("[V:2]G2 G2", "[V:2][G2 G2", 1), tmp_path)
