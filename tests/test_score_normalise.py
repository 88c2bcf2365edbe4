"""MusicXML that is legal, and stops the converter or leaks into the music, becomes readable."""

from xml.etree import ElementTree

import pytest

from notagen_jax.score import ScoreError, piece_from_abc
from notagen_jax.score.convert import musicxml_to_abc
from notagen_jax.score.normalise import RULES, normalised

SCORE = """<score-partwise>
<part-list><score-part id="P1"><part-name>Piano</part-name></score-part></part-list>
<part id="P1"><measure number="1"><attributes><divisions>1</divisions><key><fifths>0</fifths></key>
<time><beats>{beats}</beats><beat-type>4</beat-type></time></attributes>{direction}
<note><pitch><step>C</step>{alter}<octave>4</octave></pitch><duration>4</duration><voice>1</voice>
{accidental}<staff>{staff}</staff>{lyric}</note></measure></part></score-partwise>"""
PLAIN = {"beats": "4", "direction": "", "alter": "", "accidental": "", "staff": "1", "lyric": ""}
DIRECTION = "<direction><direction-type>{}</direction-type><staff>1</staff></direction>"


def body(changes: dict[str, str]) -> str:
    return piece_from_abc("a", musicxml_to_abc(SCORE.format(**{**PLAIN, **changes}).encode())).interleaved


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "[V:1]C8|"),
        ({"direction": DIRECTION.format('<pedal type="continue"/>')}, "[V:1]C8|"),
        ({"direction": DIRECTION.format('<wedge type="continue"/>')}, "[V:1]C8|"),
        ({"direction": DIRECTION.format('<octave-shift type="continue"/>')}, "[V:1]C8|"),
        ({"direction": DIRECTION.format("<metronome><beat-unit>half</beat-unit></metronome>")}, "[V:1]C8|"),
        (
            {"alter": "<alter>-1</alter>", "accidental": "<accidental>natural-flat</accidental>"},
            "[V:1]_C8|",
        ),
        ({"alter": "<alter>1</alter>", "accidental": "<accidental>natural-sharp</accidental>"}, "[V:1]^C8|"),
        ({"direction": DIRECTION.format("<dynamics><f/></dynamics>"), "staff": "2"}, "[V:1]!f! C8|"),
        ({"direction": "<sound dacapo='yes'/>", "staff": "2"}, "[V:1]C8|"),
        ({"lyric": '<lyric number="chorus"><text>la</text></lyric>'}, "[V:1]C8|"),
        ({"lyric": '<lyric number="1"><text>1.\nDich | du</text></lyric>'}, "[V:1]C8|"),
    ],
)
def test_becomes_readable(changes, line):
    assert body(changes).splitlines()[-1] == line


def test_pedal_marks_go_to_the_voice_of_the_first_even_if_that_only_goes_on():
    pitch = "<pitch><step>D</step><octave>4</octave></pitch>"
    note = f"<note>{pitch}<duration>2</duration><voice>2</voice></note>"
    change, start = (DIRECTION.format(f'<pedal type="{kind}"/>') for kind in ("change", "start"))
    before = f"{change}{note}{change}{note}<backup><duration>4</duration></backup>{start}"
    assert body({"direction": before}).splitlines()[-1] == "[V:1]D4!ped! D4|[V:2]C8|"
    assert body({"direction": before.replace(change, "")}).splitlines()[-1] == "[V:1]D4 D4|[V:2]!ped! C8|"


def test_composite_meter_is_summed():
    assert "M:7/4\n" in body({"beats": "3+4"})


def test_a_score_without_such_things_is_left_alone():
    document = SCORE.format(**PLAIN).encode()
    assert ElementTree.tostring(normalised(document).getroot()) == ElementTree.tostring(
        ElementTree.fromstring(document)
    )
    assert sum(map(len, RULES.values())) == 7


@pytest.mark.parametrize(
    ("mode", "key"), [("minor", "Amin"), ("Dorian", "Ddor"), ("", "C"), ("hypodorian", "C")]
)
def test_modes(mode, key):
    document = SCORE.format(**PLAIN).replace("</fifths>", f"</fifths><mode>{mode}</mode>").encode()
    assert f"K:{key}\n" in musicxml_to_abc(document)


def test_an_octave_out_of_all_bounds_is_refused():
    for octave in ("1000", "4294967296", "-9999"):
        document = SCORE.format(**PLAIN).replace("<octave>4", f"<octave>{octave}").encode()
        with pytest.raises(ScoreError, match=f"out of all bounds .{octave}"):
            musicxml_to_abc(document)


def test_what_cannot_be_written_is_still_refused():
    with pytest.raises(ScoreError, match="xml2abc cannot convert it"):
        body({"beats": "four"})
