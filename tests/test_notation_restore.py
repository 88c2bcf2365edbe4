"""Rests come back as they stood in the score before reduction, and as the official code writes them."""

import re

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.notation import bars_to_go, for_viewing, restore_rests
from notagen_jax.notation.bars import read_bar
from notagen_jax.notation.tune import parse_tune
from tests.notation_pieces import SCORES, as_generated, piece

HEADER = "%%score ( 1 2 ) 3\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:2 treble \nV:3 bass\n"


@pytest.mark.parametrize("name", SCORES)
def test_restored_piece_is_the_score(name):
    """Bar by bar: a voice that sounds is kept to the letter, a resting one has its duration back."""
    score = piece(name)
    restored = restore_rests(as_generated(score))
    before, after = parse_tune(score), parse_tune(restored)
    assert after.header == before.header
    assert len(after.rows) == len(before.rows)
    rests = 0
    for row, original in zip(after.rows, before.rows, strict=True):
        cells = dict(row.cells)
        assert [voice for voice, _ in row.cells] == sorted(dict(original.cells))
        for voice, text in original.cells:
            if re.search(r"[A-Ya-y]", re.sub(r"[xX]", "", text)):
                assert cells[voice] == text
                continue
            rests += 1
            assert re.fullmatch(r"(\|:)?[zx][\d/]+[:|\]]+\d?", cells[voice])
            was, now = (read_bar(bar, before.timing)[0] for bar in (text, cells[voice]))
            assert (now.duration, now.closing) == (was.duration, was.closing)
            assert ("x" in cells[voice]) == any(voice in group[1:] for group in before.groups)
    assert rests > 1


def test_official_spelling():
    """Pinned output of the official `rest_unreduce` on this piece."""
    generated = (
        f"{HEADER}[r:0/3]"
        "[V:1]c4 d4|[V:3]C,8|\n[r:1/2][V:2]e3 f|[V:3]C,4|\n[r:2/1][V:1](3cde f2|\n[r:3/0][V:3]C,3/2|]\n"
    )
    assert restore_rests(generated) == (
        f"{HEADER}[V:1]c4 d4|[V:2]x8|[V:3]C,8|\n[V:1]z4|[V:2]e3 f|[V:3]C,4|\n"
        "[V:1](3cde f2|[V:2]x4|[V:3]z4|\n[V:1]z3/2|][V:2]x3/2|][V:3]C,3/2|]\n"
    )


def test_opening_bar_line_and_volta_are_given_to_resting_voices():
    restored = restore_rests(f"{HEADER}[V:1]|: c8|1\n[V:3]C,8:|2\n")
    assert restored.splitlines()[-2:] == [
        "[V:1]|: c8|1[V:2]|:x8|1[V:3]|:z8|1",
        "[V:1]z8:|2[V:2]x8:|2[V:3]C,8:|2",
    ]


def test_the_most_common_duration_wins_and_unreadable_bars_do_not_vote():
    restored = restore_rests(f"{HEADER}V:4 bass\n[V:1]c7|[V:2]c8|[V:4]c8|\n[V:1]c4 [ce|[V:2]c6|\n")
    assert "[V:3]z8|" in restored.splitlines()[-2]
    assert "[V:3]z6|" in restored.splitlines()[-1]


def test_a_bar_of_silence_takes_the_length_before_or_the_meter():
    text = HEADER.replace("M:4/4", "M:3/4")
    lines = restore_rests(f"{text}[r:0/2]\n[r:1/1][V:1]c4:|\n[r:2/0]\n").splitlines()
    assert lines[-3] == "[V:1]z6|[V:2]x6|[V:3]z6|"
    assert lines[-1] == "[V:1]z4|[V:2]x4|[V:3]z4|"


def test_unit_lengths_that_change_inside_the_tune():
    lines = restore_rests(f"{HEADER}[V:1][L:1/4] c4|[V:3]C,8|\n[V:3]C,6|\n[V:1]c3|\n").splitlines()
    assert lines[-3] == "[V:1][L:1/4] c4|[V:2]x8|[V:3]C,8|"
    assert lines[-2] == "[V:1]z3|[V:2]x6|[V:3]C,6|"
    assert lines[-1] == "[V:1]c3|[V:2]x6|[V:3]z6|"


def test_a_truncated_tail_does_not_leak_into_the_rests():
    lines = restore_rests(f"{HEADER}[V:1]c8|[V:3]C,8|\n[V:1]c4 d\n").splitlines()
    assert lines[-1] == "[V:1]c4 d[V:2]x5|[V:3]z5|"


def test_undeclared_voices_are_kept_for_the_judge():
    assert restore_rests(f"{HEADER}[V:7]g8|[V:1]c8|\n").endswith("[V:1]c8|[V:2]x8|[V:3]z8|[V:7]g8|\n")


def test_prompt_lines_stay_and_interleaved_text_is_a_fixed_point():
    restored = restore_rests(piece("bach_generated"))
    assert restored.startswith("%Baroque\n%Bach, Johann Sebastian\n%Choral\n%end\n%%score")
    assert "[r:" not in restored
    assert restore_rests(restored) == restored


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no bars"),
        ("%Baroque\n%%score 1\nL:1/8\nK:C\nV:1 treb", "no bars"),
        ("L:1/8\nK:C\n[V:1]c8|\n", "declares no voice"),
    ],
)
def test_text_without_music_is_refused(text, message):
    with pytest.raises(NotaGenError, match=message):
        restore_rests(text)


def test_for_viewing():
    text = "%Romantic\n%end\n%%score 1\nX:7\nL:1/8\nK:C\nV:1\n[V:1]c8|\n"
    assert for_viewing(text) == "X:1\n%%score 1\nL:1/8\nK:C\nV:1\n[V:1]c8|\n"


def test_bars_to_go():
    generated = piece("bach_generated")
    assert bars_to_go(generated) == 0
    assert bars_to_go("".join(generated.splitlines(keepends=True)[:-3])) == 3
    assert bars_to_go(piece("hensel_nonne")) is None
    assert bars_to_go("V:1\n[r:0/99999999999999999999999999][V:1]c|\n") is None
