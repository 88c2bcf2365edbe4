"""The bar patches of M3: pinned examples, segments, masking."""

import numpy as np
import pytest

from notagen_jax.clamp2 import m3_patches
from notagen_jax.clamp2.m3_patches import EOS, MASK, decode, encode, remove_instruments, segments, split_bars
from notagen_jax.clamp2.masking import WAYS, mask_piece, shuffled
from notagen_jax.errors import NotaGenError
from tests.clamp2_models import pieces

TEXT = """%Romantic
%%score 1 2
K:C
V:1 treble nm="Voice" snm="V."
[V:1]|:c2 d2|[V:2]C4|
[V:1]é4:|[V:2]"^dolce"C4:|
"""
BARS = [
    "%%score 1 2\n",
    "K:C\n",
    'V:1 treble nm="Voice" snm="V."\n',
    "[V:1]|:",
    "c2 d2|",
    "[V:2]C4|\n",
    "[V:1]e4:|",
    '[V:2]"^dolce"C4:|\n',
]


def patch(text: str) -> list[int]:
    """bos, characters, eos, pads."""
    codes = [1, *text.encode(), 2]
    return codes + [0] * (64 - len(codes))


def test_headers_and_bars_become_patches():
    patches = encode(TEXT)
    assert patches.dtype == np.uint8
    assert patches.tolist() == [[1] * 64, *map(patch, BARS), [1] + [2] * 63]
    assert decode(patches) == "".join(BARS)


def test_a_long_bar_is_cut_at_the_patch():
    (row,) = encode("[V:1]" + "c" * 80 + "|\n")[1:-1].tolist()
    assert row == [1, *b"[V:1]", *b"c" * 58]


@pytest.mark.parametrize(
    ("line", "bars"),
    [
        ("[V:1]a|b|\n", ["[V:1]a|", "b|"]),
        ("|:a|b:|\n", ["|:a|", "b:|"]),
        ("a:||:b|c\n", ["a:|", "|:b", "|c\n"]),  # bar lines side by side: the pairs shift
        ("a:||:b|\n", ["a:|", "|:b", "|\n"]),
        ("a|b", ["a|"]),  # nothing closes the last bar
        ("no bar line\n", []),
        ("|", ["|"]),
    ],
)
def test_lines_are_split_as_in_the_official_code(line, bars):
    assert split_bars(line) == bars


def test_events_of_one_kind_share_a_patch():
    events = [f"note {i} 0 0 60 64" for i in range(6)]
    patches = encode("\n".join(["ticks_per_beat 480", *events]) + "\n")
    texts = [decode(row[None]) for row in patches[1:-1]]
    assert texts[0] == "ticks_per_beat 480\n"
    assert texts[1].startswith("note 0 0 0 60 64\t1 0 0 60 64\t")
    assert "".join(texts[1:]).replace("note ", "").split() == " ".join(events).replace("note ", "").split()
    assert max(map(len, texts)) <= 62


@pytest.mark.parametrize("text", ["", "\n\n", "%only a comment\n"])
def test_text_without_music_is_refused(text):
    with pytest.raises(NotaGenError, match="no music"):
        encode(text)


@pytest.mark.parametrize(
    ("count", "starts", "weights"),
    [
        (3, [0], [3]),
        (8, [0], [8]),
        (9, [0, 1], [8, 1]),
        (16, [0, 8], [8, 8]),
        (21, [0, 8, 13], [8, 8, 5]),
    ],
)
def test_the_last_segment_is_the_last_patches_weighted_by_what_is_new(count, starts, weights):
    parts, found = segments(np.arange(count), 8)
    assert [part[0] for part in parts] == starts
    assert {len(part) for part in parts} == {min(count, 8)}
    assert found.tolist() == weights


def test_instrument_names_are_removed_and_nothing_else():
    hidden = remove_instruments(TEXT)
    assert "V:1 treble\n" in hidden
    assert hidden.replace("V:1 treble\n", "") == TEXT.replace('V:1 treble nm="Voice" snm="V."\n', "")


def test_masking_follows_its_shares():
    patches = encode(pieces()[1])
    counted = dict.fromkeys(WAYS, 0)
    for seed in range(400):
        masked = mask_piece(patches, np.random.default_rng(seed))
        assert len(masked.chosen) == np.ceil(0.45 * len(patches))
        others = np.setdiff1d(np.arange(len(patches)), masked.chosen)
        np.testing.assert_array_equal(masked.inputs[others], patches[others])
        hidden = masked.inputs[masked.chosen]
        if (hidden == MASK).all():
            counted["mask"] += 1
        elif (hidden == patches[masked.chosen]).all():
            counted["keep"] += 1
        else:
            counted["shuffle"] += 1
            np.testing.assert_array_equal(np.sort(hidden, axis=1), np.sort(patches[masked.chosen], axis=1))
    shares = {way: count / 400 for way, count in counted.items()}
    assert shares == pytest.approx(WAYS, abs=0.06)


def test_shuffling_stays_between_the_first_character_and_the_eos():
    rng = np.random.default_rng(1)
    row = np.array(patch("abcdefgh|"), np.uint8)
    mixed = shuffled(row, rng)
    assert mixed[0] == 1
    assert mixed[10:].tolist() == row[10:].tolist()
    assert row[10] == EOS
    assert sorted(mixed) == sorted(row)
    assert mixed.tolist() != row.tolist()
    cut = m3_patches.encode("[V:1]" + "".join(map(chr, range(40, 110))) + "|\n")[1]
    assert shuffled(cut, rng)[0] == 1  # cut at its end: no eos to stop at
