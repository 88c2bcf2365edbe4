"""The loader: every piece once an epoch, in rows that fit, as a pure function of (seed, step)."""

import collections
import dataclasses
import itertools
import pickle
import re
import sys

import numpy as np
import pytest

from eval import loader_speed
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import decode, encode_training
from notagen_jax.score import KEYS
from tfds_builders.records import INDEX, prompt_patches
from train.config import DataConfig
from train.corpus import Corpus
from train.data import Loader, held_out_batches
from train.keys import choose_key, possible_keys
from train.likelihood import left_out
from train.packing import RowOrder, pack

PROMPT = "%Baroque\n%Bach, Johann Sebastian\n%Choral\n%end\n"


def body(piece: int, key: int) -> str:
    """A tune whose text names its piece and key and whose length grows with its number."""
    bars = "".join(f"[V:1]{'CDEF' * (1 + piece % 3)}|\n" for _ in range(2 + piece))
    return f"%%score 1\nL:1/8\nM:4/4\nK:{KEYS[key]}\nN:piece {piece}\nV:1 treble\n{bars}"


def corpus(pieces: int, name: str = "made-up") -> Corpus:
    """A corpus of made-up pieces in the record form of the builders."""
    return Corpus(
        name,
        [
            {
                "name": f"piece {piece}".encode(),
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


def equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in ("patches", "segments"))


@pytest.mark.parametrize("packing", ["on", "off"])
def test_an_epoch_holds_every_piece_once_in_whole_rows(packing):
    config = DataConfig(keys="original", rows=1, length=96, prompts=True, packing=packing)
    loader = Loader([corpus(9)], config, seed=3)
    assert loader.order.packed is (packing == "on")
    expected = [decode(encode_training(PROMPT + body(piece, piece % 15))) for piece in range(9)]
    epochs = []
    for epoch in range(3):
        texts = []
        for step in range(epoch * loader.order.rows, (epoch + 1) * loader.order.rows):
            batch = loader.batch(step)
            assert batch["patches"].shape == (1, 96, 16)
            assert batch["patches"].dtype == np.uint8
            assert batch["segments"].dtype == np.int32
            texts += pieces_of(batch)
        assert sorted(texts) == sorted(expected)
        epochs.append(tuple(texts))
    assert len(set(epochs)) == 3


def test_any_step_continues_as_if_never_stopped():
    config = DataConfig(rows=2, length=48)
    straight = list(itertools.islice(Loader([corpus(7)], config, seed=1).batches(), 24))
    for stop in (1, 5, 23):
        resumed = Loader([corpus(7)], config, seed=1).batches(stop)
        for expected, batch in zip(straight[stop:], resumed, strict=False):
            assert equal(batch, expected)
    assert not equal(straight[0], Loader([corpus(7)], config, seed=2).batch(0))


@pytest.mark.parametrize("packing", ["on", "off"])
def test_the_shares_of_several_hosts_are_the_batch_of_one(packing):
    config = DataConfig(rows=4, length=64, keys="near", packing=packing)
    loader = Loader([corpus(11)], config, seed=5)
    whole = loader.batches(3)
    halves = [Loader([corpus(11)], config, seed=5).batches(3, process, 2) for process in range(2)]
    quarters = [Loader([corpus(11)], config, seed=5).batches(3, process, 4) for process in range(4)]
    for _ in range(5):
        expected = next(whole)
        for hosts in (halves, quarters):
            shares = [next(host) for host in hosts]
            for name, array in expected.items():
                np.testing.assert_array_equal(np.concatenate([share[name] for share in shares]), array)
    with pytest.raises(NotaGenError, match=r"data.rows \(4\) must be a multiple of 3 processes"):
        loader.batch(0, 0, 3)


def test_worker_processes_give_the_same_batches():
    config = DataConfig(rows=2, length=48, workers=2)
    batches = Loader([corpus(7)], config, seed=1).batches(4)
    expected = Loader([corpus(7)], DataConfig(rows=2, length=48), seed=1)
    for step in range(4, 12):
        assert equal(next(batches), expected.batch(step))
    batches.close()


def test_without_grain_the_batches_are_the_same(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "grain", None)
    config = DataConfig(rows=2, length=48, workers=2)
    loader = Loader([corpus(7)], config, seed=1)
    for step, batch in zip(range(4, 9), loader.batches(4), strict=False):
        assert equal(batch, loader.batch(step))
    assert "Grain is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_piece_is_named_wherever_batches_are_made(workers, tmp_path):
    bad = corpus(3)
    np.save(tmp_path / "index.npy", bad.index)
    bad.rows[16]["text"] = b"L:1/8\nK:C\n"  # broken after the index was made
    bad = Corpus("made-up", bad.rows, tmp_path / "index.npy")
    config = DataConfig(rows=1, length=64, workers=workers)
    with pytest.raises(NotaGenError, match=r"made-up, piece 1 in C: no tune body"):
        list(itertools.islice(Loader([bad], config, seed=0).batches(), 60))


def test_a_bad_piece_without_an_index_is_named():
    bad = corpus(3)
    bad.rows[16]["text"] = b"L:1/8\nK:C\n"
    with pytest.raises(NotaGenError, match=r"made-up, piece 1 in C: no tune body"):
        Loader([bad], DataConfig(rows=1, length=64), seed=0)


def test_index_file(tmp_path):
    pieces = corpus(4)
    np.save(tmp_path / "index.npy", pieces.index)
    mapped = Corpus("made-up", pieces.rows, tmp_path / "index.npy")
    assert isinstance(mapped.index, np.memmap)
    np.testing.assert_array_equal(mapped.index, pieces.index)
    assert pieces.index["patches"][2, 5] == len(encode_training(body(2, 5)))
    assert (
        pieces.index["prompt"][0] == len(encode_training(PROMPT + body(0, 0))) - pieces.index["patches"][0, 0]
    )
    assert prompt_patches("", "", "") == 0
    assert "index" not in pickle.loads(pickle.dumps(mapped)).__dict__
    config = DataConfig(rows=1, length=48)
    assert Loader([mapped], config, 1).fingerprint == Loader([pieces], config, 1).fingerprint
    with pytest.raises(NotaGenError, match="not the index of these 3 pieces"):
        _ = Corpus("made-up", corpus(3).rows, tmp_path / "index.npy").index
    (tmp_path / "index.npy").write_bytes(b"junk")
    with pytest.raises(NotaGenError, match=r"index.npy: broken .* build the data set again"):
        _ = Corpus("made-up", pieces.rows, tmp_path / "index.npy").index


def test_prompts_need_labels():
    unlabelled = corpus(3)
    for row in unlabelled.rows[15:30]:
        row["composer"] = b""
    assert list(unlabelled.index["prompt"] > 0) == [True, False, True]
    with pytest.raises(NotaGenError, match=r"piece 1 has no labels \(1 of 3 pieces\)"):
        Loader([unlabelled], DataConfig(rows=1, length=64, prompts=True), seed=0)


def test_long_pieces_are_cut_to_a_row():
    # Lines of about 30 patches: a window near the end of such a piece is shorter than the row.
    wide = "".join(f"[V:{voice}]{'CDEFGABc' * 12}|" for voice in range(1, 4)) + "\n"
    long_piece = f"L:1/8\nK:C\nV:1\n{wide * 8}".encode()
    mixed = corpus(8)
    for row in range(15):
        mixed.rows[row]["text"] = mixed.rows[15 + row]["text"] = long_piece
    config = DataConfig(rows=1, length=64, weights=(2,))
    for seed in range(4):
        loader = Loader([mixed], config, seed)
        cut = set()
        for step in range(6 * loader.order.rows):
            batch = loader.batch(step)
            if any(item.piece < 2 for item in loader.row_items(step)):
                assert batch["segments"].max() == 1
                cut.add(batch["patches"].tobytes())
        assert len(cut) > 3  # several windows of the same text


def test_names_are_those_of_the_global_batch():
    config = DataConfig(rows=4, length=64, keys="near")
    loader = Loader([corpus(6, "first"), corpus(5, "second")], config, seed=2)
    for step in (0, 3, 7):
        names = loader.names(step)
        texts = pieces_of(loader.batch(step))
        assert len(names) == len(texts)
        for name, text in zip(names, texts, strict=True):
            source, rest = name.split(": ")
            piece, key = rest.split(" in ")
            assert source in ("first", "second")
            assert f"N:{piece}\n" in text
            assert f"K:{key}\n" in text


def test_fingerprint_changes_with_what_the_order_depends_on():
    config = DataConfig(rows=1, length=48)
    digest = Loader([corpus(7)], config, seed=1).fingerprint
    assert digest == Loader([corpus(7)], config, seed=1).fingerprint
    assert digest == Loader([corpus(7)], DataConfig(rows=1, length=48, workers=3), seed=1).fingerprint
    changed = corpus(7)
    changed.rows[0]["text"] += b"[V:1]GGGGGGGGGGGGGGGGGGG|\n"
    for other in (
        Loader([corpus(8)], config, seed=1),
        Loader([corpus(7)], config, seed=2),
        Loader([changed], config, seed=1),
        Loader([corpus(7)], DataConfig(rows=1, length=47), seed=1),
        Loader([corpus(7)], DataConfig(rows=1, length=48, packing="off"), seed=1),
    ):
        assert other.fingerprint != digest


def test_weights_repeat_a_source():
    config = DataConfig(sources=("a", "b"), weights=(3, 1), rows=1, length=64)
    loader = Loader([corpus(2), corpus(4)], config, seed=0)
    items = [item for row in range(loader.order.rows) for item in loader.row_items(row)]
    counts = collections.Counter((item.corpus, item.piece) for item in items)
    assert counts == {**{(0, piece): 3 for piece in range(2)}, **{(1, piece): 1 for piece in range(4)}}


@pytest.mark.parametrize("keys", ["original", "uniform"])
def test_long_pieces_are_left_out_of_training_and_held_out(keys):
    pieces = corpus(9)
    for row in pieces.rows[4 * 15 :: 15]:  # longer in one key, which only "uniform" draws for them
        row["text"] = row["text"] + b"[V:1]CDEFGABc|\n" * 40
    pieces = Corpus(pieces.name, pieces.rows)
    config = DataConfig(
        keys=keys, rows=1, length=128, prompts=True, longest=len(encode_training(PROMPT + body(6, 6)))
    )
    loader = Loader([pieces], config, seed=0)
    kept = [0, 1, 2, 3] if keys == "uniform" else [0, 1, 2, 3, 4, 5, 6]
    names = {f"piece {number}" for number in kept}
    seen = [name for step in range(loader.order.rows) for name in loader.names(step)]
    assert sorted(name.split(": ")[1].split(" in ")[0] for name in seen) == sorted(names)
    batches = [*map(loader.batch, range(loader.order.rows)), *held_out_batches(pieces, config, 64)]
    texts = [re.search("N:(.*)", text)[1] for batch in batches for text in pieces_of(batch)]
    assert sorted(texts) == sorted([*names, *names])
    everything = Loader([pieces], dataclasses.replace(config, longest=10_000), seed=0)
    assert everything.corpora == [pieces]
    assert left_out([pieces], everything.corpora, 10_000) == []
    (line,) = left_out([pieces], loader.corpora, config.longest)
    assert line.startswith(f"made-up: {9 - len(kept)} of 9 pieces are longer")
    assert f"data.longest ({config.longest} patches)" in line
    few = dataclasses.replace(config, longest=9)
    for use in (lambda: Loader([pieces], few, seed=0), lambda: held_out_batches(pieces, few, 64)):
        with pytest.raises(
            NotaGenError, match=r"made-up: none of 9 pieces .*data.longest \(9\).* shortest has \d\d"
        ):
            use()


def test_weights_must_match_the_sources():
    with pytest.raises(NotaGenError, match="2 entries for 1 sources"):
        DataConfig(sources=("a",), weights=(1, 2))


def test_pack_keeps_every_item_and_never_overfills():
    rng = np.random.default_rng(0)
    for items, longest in ((500, 100), (3, 100), (300, 30), (40, 7)):
        histogram = collections.Counter(rng.integers(1, longest + 1, items).tolist())
        rows = pack(histogram, 100)
        packed = collections.Counter()
        for template, count in rows:
            assert sum(template) <= 100
            assert count > 0
            for length in template:
                packed[length] += count
        assert packed == histogram
        filled = sum(length * count for length, count in histogram.items()) / 100
        least = max(filled, sum(count for length, count in histogram.items() if length > 50))
        assert sum(count for _, count in rows) <= max(1.02 * least, least + 1)


@pytest.mark.parametrize(("room", "packed"), [([60, 70, 80], False), ([40, 50, 60, 70, 90], True)])
def test_packing_is_chosen_when_it_saves(room, packed):
    order = RowOrder(np.array(room), 100, "auto", seed=0)
    assert order.packed is packed
    assert order.padding == pytest.approx(1 - sum(room) / (100 * order.rows))
    alone = RowOrder(np.array(room), 100, "off", seed=0)
    assert alone.rows == len(room)


def test_partners_of_a_row_change_between_epochs():
    order = RowOrder(np.full(64, 25), 100, "on", seed=0)
    partners = {frozenset(order.row(row)[1]) for row in range(8 * order.rows)}
    assert len(partners) > 100


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


@pytest.mark.parametrize("policy", ["original", "near", "uniform"])
def test_possible_keys_are_those_that_are_drawn(policy):
    rng = np.random.default_rng(1)
    for original in range(15):
        drawn = {choose_key(original, policy, rng) for _ in range(600)}
        assert drawn == set(np.flatnonzero(possible_keys(policy)[original]))


def test_held_out_batches_are_the_same_at_every_call():
    config = DataConfig(keys="uniform", rows=2, length=64)
    first, second = (held_out_batches(corpus(5), config, 64) for _ in range(2))
    texts = [text for batch in first for text in pieces_of(batch)]
    assert sorted(texts) == sorted(decode(encode_training(body(piece, piece), 64)) for piece in range(5))
    assert all(batch["patches"].shape == (2, 64, 16) for batch in first)
    for a, b in zip(first, second, strict=True):
        assert equal(a, b)
    assert len(held_out_batches(corpus(30), config, 6)) == 3


def test_the_benchmark_measures_both_forms(capsys):
    loader_speed.run(loader_speed.LoaderSpeed(seconds=0.05, length=256, rows=1, many=1000))
    printed = capsys.readouterr().out
    assert "tests/data: 6 pieces, rows of 256" in printed
    padding = {
        form: float(share) for form, share in re.findall(r"^(packed|unpacked) +([\d.]+) %", printed, re.M)
    }
    assert 0 <= padding["packed"] < padding["unpacked"] < 100


def test_the_index_is_small():
    assert INDEX.itemsize * 1_600_000 < 128 * 2**20
