"""An ABC file is cut into its tunes where the ABC standard says, and a tune's layout is told apart."""

import pytest

from notagen_jax.score import ScoreError, piece_from_abc
from notagen_jax.score.tunes import is_voice_by_voice, split_tunes

BODY = "K:C\nCDEF|GABc|\n"


@pytest.mark.parametrize(
    ("text", "tunes"),
    [
        (f"X:1\n{BODY}", {"1": f"X:1\n{BODY}"}),
        (BODY, {"": BODY}),
        (f"free text\nX:1\n{BODY}", {"1": f"free text\nX:1\n{BODY}"}),
        (f"X:1\n{BODY}\nX: 2 % two\n{BODY}", {"1": f"X:1\n{BODY}", "2": f"X: 2 % two\n{BODY}"}),
        (
            f"About these tunes.\nM:3/4\n%%scale 1\nT:no\nX:1\n{BODY}X:a/b\n{BODY}",
            {"1": f"X:1\nM:3/4\n%%scale 1\n{BODY}", "a-b": f"X:a/b\nM:3/4\n%%scale 1\n{BODY}"},
        ),
        (
            f"X:1\n{BODY}\nSome words.\n\nX:1\n{BODY}\nX:\n{BODY}",
            {"1": f"X:1\n{BODY}", "1-2": f"X:1\n{BODY}", "0": f"X:\n{BODY}"},
        ),
        # Blank lines that files have though the standard ends a tune there.
        (f"X:1\nT:a\n\n{BODY}\nX:2\n{BODY}", {"1": f"X:1\nT:a\n{BODY}", "2": f"X:2\n{BODY}"}),
        (
            f"X:1\n{BODY}\n\nV:2\nC4|C4|\n\nwords\n\nX:2\n{BODY}",
            {"1": f"X:1\n{BODY}V:2\nC4|C4|\n", "2": f"X:2\n{BODY}"},
        ),
    ],
)
def test_split(text, tunes):
    assert split_tunes(text) == tunes
    assert list(split_tunes(text)) == list(tunes)


def test_more_than_any_collection_is_refused():
    with pytest.raises(ScoreError, match="more than 100000 tunes"):
        split_tunes("X:1\n" * 100_001)
    with pytest.raises(ScoreError, match="file header is too long"):
        split_tunes("N:a\n" * 3000 + "X:1\nX:2\n")


HEADER = "X:1\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:2 bass\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEADER + "V:1\nC8|\nV:2\nC8|\n", True),
        ("L:1/8\nK:C\nV:1\nV:1\nC8|\n", True),
        (HEADER.replace("1/8", "1/4") + "V:1\nC4|\nV:2\nC4|\n", False),
        (HEADER + "V:1\nC8|\nV:2\nC8|\nV:1\nD8|\nV:2\nD8|\n", False),
        (HEADER + "V:1\nC8|\nV:2\nC8|\nV:2\nD8|\n", False),
        (HEADER + "[V:1] C8|\n[V:2] C8|\n", False),
        (HEADER + "V:1\nC8|\nV:2 bass\nC8|\n", False),
    ],
)
def test_layout(text, expected):
    assert is_voice_by_voice(text) is expected


def test_voices_in_blocks_of_lines_come_out_whole():
    piece = piece_from_abc("a", HEADER + "V:1\nC8|\nV:2\nC8|\nV:1\nD8|\nV:2\nD8|\n")
    assert piece.interleaved.splitlines()[-2:] == ["[V:1]C8|[V:2]C8|", "[V:1]D8|[V:2]D8|"]


def test_marks_without_music_are_passed_over_and_damage_is_not():
    plain = piece_from_abc("a", f"X:1\nL:1/8\n{BODY}").interleaved
    assert piece_from_abc("a", "X:1\nL:1/8\nK:C\nC`DE`F|)GABc|*\n").interleaved == plain
    for music in ("CDEF|[GABc|\n", "CDEF|GABc|^\n", "CDEF|GA{Bc|\n"):
        with pytest.raises(ScoreError, match="abc2xml cannot read it"):
            piece_from_abc("a", f"X:1\nL:1/8\nK:C\n{music}")


def test_a_tune_does_not_depend_on_the_one_before():
    tune = "X:1\nL:1/8\nK:C\nPCDEF|GABc|\n"
    alone = piece_from_abc("a", tune).interleaved
    piece_from_abc("b", "X:1\nU:P=!fermata!\n%%MIDI program 40\nL:1/8\nK:C\nPCDEF|GABc|\n")
    assert piece_from_abc("a", tune).interleaved == alone
