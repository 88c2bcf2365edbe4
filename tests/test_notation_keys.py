"""Key signatures of `K:` fields, and voices that stand in different ones."""

import pytest

from notagen_jax.notation.keys import signature, voices_apart
from notagen_jax.score import KEYS
from notagen_jax.score.spelling import signature_of
from tests.notation_pieces import piece


@pytest.mark.parametrize("mode", ["m", "min", "dor", "mix"])
def test_signatures_are_those_of_abctoolkit(mode: str):
    """Up to seven sharps or flats; beyond, it takes the other spelling of the key."""
    keys = [tonic + mode for tonic in KEYS if abs(signature(tonic + mode)) <= 7]
    assert len(keys) >= 12
    assert [signature(key) for key in keys] == [signature(signature_of(key)) for key in keys]


@pytest.mark.parametrize(
    ("key", "sharps"),
    [
        ("C", 0),
        ("F#", 6),
        ("Cb", -7),
        ("Gmin", -2),
        ("F#min", 3),
        ("D dorian", 0),
        ("Gmaj", 1),
        ("C phr", -4),
        ("C lyd", 1),
        ("C loc", -5),
        ("A aeo", 0),
        ("C ion", 0),
        ("Am\u0131n", None),
        (" A treble", 3),
        ("A mezzosoprano", 3),
        ("Am clef=bass", 0),
        ("none", 0),
        ("none clef=bass", 0),
        ("bass", None),
        ("Bass", None),
        ("Dfoo", None),
        ("H", None),
        ("", None),
    ],
)
def test_a_key_field_is_read(key: str, sharps: int | None):
    assert signature(key) == sharps


@pytest.mark.parametrize(
    ("header", "rows", "apart"),
    [
        ("K:Gmin\nV:1\nV:2", ["[V:1]G2|[V:2][K:Bb]D2|", "[V:1]A2|[V:2]D2|"], False),
        ("K:Gmin\nV:1\nV:2", ["[V:1]G2|[V:2][K:F]D2|"], True),
        ("K:G\nV:1\nV:2", ["[V:1]G2|", "[V:1]A2|[V:2][K:C]D2|", "[V:1][K:C]A2|[V:2]D2|"], True),
        ("K:G\nV:1\nV:2", ["[r:0/1][V:1]G2|[V:2]D2|", "[r:1/0][V:1][K:Dmin]A2|[V:2][K:F] D2|"], False),
        ("K:none\nV:1\nV:2", ["[V:1]G2|[V:2][K:Amin]D2|"], False),
        ("K:G\nV:1\nV:2", ["[V:1]G2|[V:2][K:bass]D2|"], False),
        ("K:G\nK:clef=bass\nV:1\nV:2", ["[V:1]G2|[V:2][K:G]D2|"], False),
        ("M:4/4\nV:1\nV:2", ["[V:1]G2|[V:2][K:none]D2|"], False),
        ("K:G\nV:1\nV:2", ['[V:1]G2|[V:2]"^[K:D]"D2|'], False),
        ("K:G\nV:1\nV:2 treble transpose=-2", ["[V:1]G2|[V:2][K:A]A2|"], False),
        ("K:G\nV:1\nV:2 bass transpose=-12", ["[V:1]G2|[V:2][K:A]A2|"], True),
        ("K:G\nV:1\nV:2", ["[V:1]G2|[V:2][K:A][K:treble transpose=-2]A2|"], False),
        ("K:G\nV:1\nV:2 perc\nK:none", ["[V:1]G2|[V:2]D2|", "[V:1][K:D]G2|[V:2]D2|"], False),
        ("K:G\nV:1\nV:2\nK:none\nV:3", ["[V:1]G2|[V:3]G2|"], True),
        ("K:G\nV:1\nV:2\nK:A transpose=-2", ["[V:1]G2|[V:2]D2|"], False),
        ("K:G\nV:1\nV:2\nK:none clef=perc", ["[V:1]G2|[V:2]D2|"], False),
        ("K:G\nV:1\nV:2", ["[V:1]G2|[V:2][K:none clef=perc]D2|"], False),
        ("M:4/4\nV:1\nV:2\nK:G", ["[V:1]G2|[V:2]D2|"], False),
        ("M:4/4\nV:1\nV:2\nK:G", ["[V:1]G2|[V:2][K:C]D2|"], True),
        ('K:C\nV:1\nV:2 nm="transpose=3 perc"', ["[V:1]C2|[V:2][K:G]D2|"], True),
        ("K:G\nV:1\nV:2 transpose=" + "9" * 5000, ["[V:1]G2|[V:2][K:A]A2|"], False),
    ],
)
def test_voices_in_different_keys_are_found(header: str, rows: list[str], apart: bool):
    assert voices_apart("\n".join([header, *rows, ""])) is apart


def test_a_chorale_stands_in_one_key():
    text = piece("bach_generated")
    assert not voices_apart(text)
    assert voices_apart(text.replace("[K:Gb]", "[K:G]", 1))
