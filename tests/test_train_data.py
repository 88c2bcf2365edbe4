"""The loader: every piece once an epoch, in rows that fit, as a pure function of the seed."""

import collections

import numpy as np
import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.patches import decode, encode_training
from notagen_jax.score import KEYS
from train.config import DataConfig
from train.data import Corpus, Loader, choose_key, held_out_batches, pack


def body(piece: int, key: int) -> str:
    """A tune whose text names its piece and key and whose length grows with its number."""
    bars = "".join(f"[V:1]{'CDEF' * (1 + piece % 3)}|\n" for _ in range(2 + piece))
    return f"%%score 1\nL:1/8\nM:4/4\nK:{KEYS[key]}\nN:piece {piece}\nV:1 treble\n{bars}"


def corpus(pieces: int) -> Corpus:
    """A corpus of made-up pieces in the record form of the builders."""
    return Corpus(
        "made-up",
        [
            {
                "text": body(piece, key).encode(),
                "original_key": piece % 15,
                "period": b"Baroque",
                "composer": b"Bach, Johann Sebastian",
                "instrumentation": b"Choral",
            }
            for piece in range(pieces)
            for key in range(15)
        ],
    )


def pieces_of(batch: dict[str, np.ndarray]) -> list[str]:
    """The texts packed into a batch."""
    return [
        decode(patches[segments == number])
        for patches, segments in zip(batch["patches"], batch["segments"], strict=True)
        for number in range(1, segments.max() + 1)
    ]


def test_an_epoch_holds_every_piece_once_in_whole_rows():
    loader = Loader([corpus(9)], DataConfig(keys="original", rows=2, length=64, prompts=True), seed=3)
    texts, ends = [], []
    for batch, position in loader.batches():
        assert batch["patches"].shape == (2, 64, 16)
        assert batch["patches"].dtype == np.uint8
        texts += pieces_of(batch)
        ends.append(position)
        if position["epoch"]:
            break
    prompt = "%Baroque\n%Bach, Johann Sebastian\n%Choral\n%end\n"
    expected = [decode(encode_training(prompt + body(piece, piece % 15))) for piece in range(9)]
    assert sorted(texts) == sorted(expected)
    assert ends[-1] == {"epoch": 1, "batch": 0}


def test_any_position_continues_as_if_never_stopped():
    config = DataConfig(rows=1, length=48)
    straight = Loader([corpus(7)], config, seed=1).batches()
    taken = [next(straight) for _ in range(12)]
    for stop in (1, 5, 9):
        _, position = taken[stop - 1]
        resumed = Loader([corpus(7)], config, seed=1).batches(**position)
        for expected, _ in taken[stop:]:
            batch, _ = next(resumed)
            np.testing.assert_array_equal(batch["patches"], expected["patches"])
            np.testing.assert_array_equal(batch["segments"], expected["segments"])


def test_long_pieces_neither_overfill_a_row_nor_change_the_plan():
    # Lines of about 30 patches: a window near the end of such a piece is shorter than the row.
    wide = "".join(f"[V:{voice}]{'CDEFGABc' * 12}|" for voice in range(1, 4)) + "\n"
    long_piece = f"L:1/8\nK:C\nV:1\n{wide * 8}".encode()
    mixed = corpus(8)
    for row in range(15):
        mixed.rows[row]["text"] = mixed.rows[15 + row]["text"] = long_piece
    config = DataConfig(rows=1, length=64, weights=(2,))
    for seed in range(4):
        straight = Loader([mixed], config, seed)
        for epoch in range(6):
            assert straight.plan(epoch) == Loader([mixed], config, seed).plan(epoch)
            for items in straight.plan(epoch):
                straight.row(items)


def test_fingerprint_changes_with_what_the_order_depends_on():
    config = DataConfig(rows=1, length=48)
    digest = Loader([corpus(7)], config, seed=1).fingerprint
    assert digest == Loader([corpus(7)], config, seed=1).fingerprint
    for changed in (
        Loader([corpus(8)], config, seed=1),
        Loader([corpus(7)], config, seed=2),
        Loader([corpus(7)], DataConfig(rows=1, length=47), seed=1),
    ):
        assert changed.fingerprint != digest


def test_epochs_and_seeds_differ():
    config = DataConfig(rows=1, length=48)
    loader = Loader([corpus(7)], config, seed=1)
    assert loader.plan(0) != loader.plan(1)
    assert loader.plan(0) != Loader([corpus(7)], config, seed=2).plan(0)


def test_weights_repeat_a_source():
    config = DataConfig(sources=("a", "b"), weights=(3, 1), rows=1, length=64)
    plan = Loader([corpus(2), corpus(4)], config, seed=0).plan(0)
    counts = collections.Counter((item.corpus, item.piece) for row in plan for item in row)
    assert all(counts[0, piece] == 3 for piece in range(2))
    assert all(counts[1, piece] == 1 for piece in range(4))


def test_weights_must_match_the_sources():
    with pytest.raises(NotaGenError, match="2 entries for 1 sources"):
        DataConfig(sources=("a",), weights=(1, 2))


def test_pack_keeps_every_item_and_never_overfills():
    lengths = np.random.default_rng(0).integers(1, 100, 500)
    rows = pack(lengths, 100, open_rows=8)
    assert sorted(item for row in rows for item in row) == list(range(500))
    assert max(lengths[row].sum() for row in rows) <= 100
    assert lengths.sum() / (100 * len(rows)) > 0.9


def test_near_keys_follow_the_weights_around_the_original():
    rng = np.random.default_rng(0)
    draws = 32_000
    counts = collections.Counter(KEYS[choose_key(KEYS.index("D"), "near", rng)] for _ in range(draws))
    # D ± 3 semitones: B Cb, C, C# Db, D, Eb, E, F with 1 2 3 4 3 2 1 sixteenths.
    expected = {"B": 0.8, "Cb": 0.2, "C": 2, "Db": 2.4, "C#": 0.6, "D": 4, "Eb": 3, "E": 2, "F": 1}
    assert set(counts) == set(expected)
    for key, sixteenths in expected.items():
        assert counts[key] / draws == pytest.approx(sixteenths / 16, abs=0.008)


def test_tritone_is_spelled_both_ways_evenly():
    rng = np.random.default_rng(0)
    counts = collections.Counter(KEYS[choose_key(KEYS.index("F"), "near", rng)] for _ in range(32_000))
    assert counts["F#"] / 32_000 == pytest.approx(1.5 / 16, abs=0.008)
    assert counts["Gb"] / 32_000 == pytest.approx(1.5 / 16, abs=0.008)


def test_uniform_keys_are_uniform():
    rng = np.random.default_rng(0)
    counts = collections.Counter(choose_key(3, "uniform", rng) for _ in range(30_000))
    assert set(counts) == set(range(15))
    assert max(counts.values()) < 1.15 * min(counts.values())


def test_a_bad_piece_is_named():
    bad = corpus(3)
    bad.rows[16]["text"] = b"L:1/8\nK:C\n"
    with pytest.raises(NotaGenError, match=r"made-up, piece 1 in C: no tune body"):
        Loader([bad], DataConfig(keys="original", rows=1, length=64), seed=0).plan(0)


def test_held_out_batches_are_the_same_at_every_call():
    config = DataConfig(keys="uniform", rows=2, length=64)
    first, second = (held_out_batches(corpus(5), config, 64) for _ in range(2))
    texts = [text for batch in first for text in pieces_of(batch)]
    assert len(texts) == 5
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a["patches"], b["patches"])
