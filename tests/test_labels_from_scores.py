"""Labels and identity that follow from a score: instrumentation, composer, normal form."""

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.score import read_piece
from tests.planted_corpus import DATA
from tfds_builders.composers import composer_label
from tfds_builders.instrumentation import Part, instrumentation_of, parts_of
from tfds_builders.normal_form import normal_form
from tfds_builders.works import Work


def header(score: str, *names: str) -> list[str]:
    """The lines of an ABC header with a voice for each name ('' for none)."""
    voices = [f"V:{n} treble" + (f' nm="{name}" snm="x."' if name else "") for n, name in enumerate(names, 1)]
    return [f"%%score {score}", "L:1/8", *voices]


SATB = ("Soprano", "Alto", "Tenor", "Bass")
STRINGS = ("Violin I", "Violin II", "Viola", "Violoncello")


@pytest.mark.parametrize(
    ("score", "names", "label"),
    [
        ("{ 1 | ( 2 3 ) }", ("Piano", "", ""), "Keyboard"),
        ("{ 1 | 2 }", ("", ""), "Keyboard"),
        ("{ 1 | 2 } 3", ("Orgel", "", "Pedal"), "Keyboard"),
        ("1", ("Cembalo",), "Keyboard"),
        ("1 { 2 | 3 }", ("Voice", "Piano", ""), "Art Song"),
        ("1 { 2 | 3 }", ("Singstimme.", "Pianoforte", ""), "Art Song"),
        ("1 2 { 3 | 4 }", ("Soprano", "Tenor", "Klavier", ""), "Art Song"),
        ("1 2 { 3 | 4 }", ("Gesang", "Klarinette", "Piano", ""), "Art Song"),
        ("1 2", ("Voice", "Guitar"), "Art Song"),
        ("[ 1 | 2 | 3 | 4 ]", SATB, "Choral"),
        ("[ 1 | 2 | 3 | 4 ]", ("S.", "A.", "T.", "B."), "Choral"),
        ("[ 1 | 2 | 3 | 4 ] 5", (*SATB, "Continuo"), "Choral"),
        ("[ 1 | 2 | 3 | 4 ] { 5 | 6 }", (*SATB, "Organ", ""), "Choral"),
        ("1 [ 2 | 3 | 4 | 5 ]", ("Oboe", *SATB), "Choral"),
        ("1 2", ("Canto", "Basso"), "Choral"),
        ("1 { 2 | 3 }", ("Chorus", "Piano", ""), "Choral"),
        ("1 2 3 4 5 6 7", (*STRINGS[:3], *SATB), "Vocal-Orchestral"),
        ("1 2 3 4", ("Oboe 1", "Oboe 2", "Violin", "Soprano"), "Vocal-Orchestral"),
        ("[ 1 2 3 4 ]", STRINGS, "Chamber"),
        ("[ 1 2 3 4 5 ]", (*STRINGS, "Bass"), "Chamber"),
        ("1 { 2 | 3 }", ("Violin", "Piano", ""), "Chamber"),
        ("1 2 3", ("Alto Saxophone", "Tenor Saxophone", "Bass Clarinet"), "Chamber"),
        ("1", ("Violoncello",), "Chamber"),
        ("{ 1 | 2 | 3 }", ("Horn 1", "Horn 2", "Horn 3"), "Chamber"),
        (" ".join(map(str, range(1, 11))), tuple(f"Flute {n}" for n in range(10)), "Orchestral"),
        ("1 2 3 4 5 6", (*STRINGS, "Trumpet", "Timpani"), "Orchestral"),
        ("1", ("",), ""),
        ("1 { 2 | 3 }", ("", "", ""), ""),
        ("1 2", ("Violin", "MusicXML Part"), ""),
        ("1 { 2 | 3 }", ("Part 1", "Part 2", ""), ""),
    ],
)
def test_instrumentation_from_the_parts(score, names, label):
    assert instrumentation_of(header(score, *names)) == label


def test_instrumentation_of_real_scores():
    labels = {
        "bach_bwv113_8.mxl": "Choral",
        "mozart_k464_opening.mxl": "Chamber",
        "hensel_sehnsucht.mxl": "Art Song",
    }
    for name, label in labels.items():
        assert instrumentation_of(read_piece(DATA / name).lines) == label


def test_parts():
    assert parts_of(header("{ ( 1 2 ) | 3 } 4 { 5 | 6 }", "Piano", "", "", "Voice", "Harp", "Harp")) == [
        Part("piano", 2),
        Part("voice", 1),
        Part("harp", 2),
    ]
    assert parts_of(["K:C"]) == []
    assert parts_of(['V:1 treble nm="Flute"']) == [Part("flute", 1)]


def test_a_source_may_allow_several_instrumentations():
    song = Work("a", None, "a", instrumentations=("Art Song", "Choral"))
    assert [song.instrumentation(label) for label in ("Choral", "Chamber", "")] == [
        "Choral",
        "Art Song",
        "Art Song",
    ]
    assert Work("a", None, "a", instrumentations=("Keyboard",)).instrumentation("Choral") == "Keyboard"
    assert Work("a", None, "a").instrumentation("Choral") == "Choral"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Dvořák, Antonín", "Dvorak, Antonin"),
        ("Faisst,_Clara_Mathilda", "Faisst, Clara"),
        ("Hensel,_Fanny_(Mendelssohn)", "Hensel, Fanny"),
        ("Barnard,_Charlotte_Alington_-_aka_Claribel", "Barnard, Charlotte Alington"),
        ("Hardelot,_Guy_d’", "Hardelot, Guy d"),
        ("  Bach ,  Johann   Sebastian ", "Bach, Johann Sebastian"),
        ("Bach, Johann Christian", "Bach, Johann Christian"),
        ("Poldowski", "Poldowski"),
    ],
)
def test_composer_label(name, label):
    assert composer_label(name) == label


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "no composer"), (" , ", "no composer"), ("Hugo Wolf", 'not written as "Last, First"')],
)
def test_names_that_are_no_composer(name, message):
    with pytest.raises(NotaGenError, match=message):
        composer_label(name)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("K:C\n[V:1]C2 D2|", 'Q:1/4=80\nK:C\n[V:1]"^dolce"C2D2 ||', True),
        ("[V:1](CD) !f!.E|", "[V:1]CDE|", True),
        ("[V:1][M:3/4]CDE|", "[V:1]CDE|]", True),
        ("[V:1]CDE|", "[V:1]CDE:|", False),
        ("[V:1](3CDE|", "[V:1]CDE|", False),
        ("[V:1]C-C|", "[V:1]CC|", False),
        ("[V:1]{C}D|", "[V:1]D|", False),
        ("[V:1]CDE|", "[V:1]CD^E|", False),
        ("[V:1]C|[V:2]E|", "[V:1]E|[V:2]C|", False),
    ],
)
def test_normal_form(first, second, same):
    assert (normal_form(first) == normal_form(second)) is same
