"""Preference files and the pairs drawn from them: uniform, pure in (seed, step), whole or one window."""

import collections
import json

import numpy as np
import pytest

from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import decode, encode_piece
from tests.tiny_composer import random_params
from train.dpo import reference
from train.dpo.pairs import BUCKET, PairLoader, bucket, encode, pad
from train.dpo.preferences import Preference, read_preferences, write_preferences
from train.dpo.reference import reference_log_probs


def piece(prompt: str, name: str, verdict: str, bars: int = 3) -> Preference:
    """A piece as a model writes it, stream headers in."""
    body = "".join(f"[r:{n}/{bars - 1 - n}][V:1]CDEF GABc|\n" for n in range(bars))
    return Preference(prompt, name, verdict, f"%{prompt}\n%end\nL:1/8\nK:C\nV:1\n{body}", 0.5)


PIECES = [
    *(piece("a", f"a-{n}", verdict, 2 + n) for n, verdict in enumerate(["chosen", "rejected", "rejected"])),
    *(piece("b", f"b-{n}", verdict, 3) for n, verdict in enumerate(["chosen"] * 3 + ["rejected"] * 2)),
    piece("alone", "alone-0", "rejected"),
]


def loader(rows: int = 4, seed: int = 0, length: int = 512) -> PairLoader:
    pieces = encode(PIECES, length, seed)
    return PairLoader(pieces, -100.0 * np.arange(1, len(pieces) + 1), rows, length, seed)


def test_a_preference_file_comes_back(tmp_path):
    path = tmp_path / "preferences.jsonl"
    write_preferences(path, PIECES)
    assert read_preferences(path) == PIECES
    first = json.loads(path.read_text().splitlines()[0])
    assert first["prompt"] == "a"
    assert first["text"].startswith("%a\n%end\n")


def test_bad_preference_files_are_named(tmp_path):
    path = tmp_path / "preferences.jsonl"
    write_preferences(path, PIECES)
    good = path.read_text()
    for bad in ("{", '{"prompt": "a"}', good.splitlines()[0].replace('"chosen"', '"liked"')):
        path.write_text(good + bad + "\n")
        with pytest.raises(NotaGenError, match=rf"preferences.jsonl, line {len(PIECES) + 1}: "):
            read_preferences(path)
    write_preferences(path, [piece("a", "1", "chosen"), piece("b", "1", "rejected")])
    with pytest.raises(NotaGenError, match="no pair to learn from"):
        read_preferences(path)


def test_every_pair_of_a_prompt_is_as_likely():
    pairs = loader(rows=8000).drawn(0)
    counted = collections.Counter(pairs)
    # a: 1 × 2, b: 3 × 2; the prompt with rejected pieces only has no pair.
    expected = {(0, 1), (0, 2)} | {(chosen, rejected) for chosen in (3, 4, 5) for rejected in (6, 7)}
    assert set(counted) == expected
    assert loader().pairs == len(expected)
    assert all(abs(count / 8000 - 1 / 8) < 0.015 for count in counted.values())


def test_batches_are_a_function_of_seed_and_step():
    straight = loader().batches(0)
    taken = [next(straight) for _ in range(4)]
    resumed = loader().batches(2)
    for expected in taken[2:]:
        batch = next(resumed)
        assert batch.keys() == expected.keys()
        for name, array in batch.items():
            np.testing.assert_array_equal(array, expected[name])
    assert loader().drawn(0) != loader().drawn(1)
    assert loader(seed=1).drawn(0) != loader().drawn(0)
    indices = [index for pair in loader().drawn(3) for index in pair]
    assert loader().names(3) == [f"{PIECES[index].prompt}: {PIECES[index].name}" for index in indices]


def test_processes_share_the_rows_of_the_global_batch():
    whole = next(loader().batches(5))
    parts = [next(loader().batches(5, process, 2)) for process in range(2)]
    for name, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)


def test_a_batch_holds_the_texts_and_log_probs_of_its_pairs():
    pairs = loader()
    batch = next(pairs.batches(7))
    assert batch["patches"].shape == (4, 2, BUCKET, 16)
    assert batch["patches"].dtype == np.uint8
    for row, drawn in enumerate(pairs.drawn(7)):
        for side, index in enumerate(drawn):
            patches, real = batch["patches"][row, side], batch["segments"][row, side]
            assert decode(patches[real == 1]) == PIECES[index].text
            assert not patches[real == 0].any()
            assert batch["reference"][row, side] == -100.0 * (index + 1)
        assert PIECES[drawn[0]].verdict == "chosen"
        assert PIECES[drawn[1]].verdict == "rejected"


def test_a_long_piece_is_one_window_that_keeps_the_metadata():
    long = [piece("a", f"a-{n}", "chosen", 40) for n in range(30)]
    windows = [patches for _, patches in encode(long, 32, seed=0)]
    again = [patches for _, patches in encode(long, 32, seed=0)]
    whole = encode_piece(long[0].text)
    bodies = set()
    for patches, same in zip(windows, again, strict=True):
        np.testing.assert_array_equal(patches, same)
        assert len(patches) <= 32
        np.testing.assert_array_equal(patches[: len(whole.metadata)], whole.metadata)
        bodies.add(patches[len(whole.metadata) :].tobytes())
    assert len(bodies) > 3  # head, tail and several middles
    assert bucket(1, 512) == BUCKET
    assert bucket(BUCKET + 1, 512) == 2 * BUCKET
    assert bucket(500, 500) == 500


def test_a_piece_that_cannot_be_encoded_is_named():
    with pytest.raises(NotaGenError, match="a, bad-1: no tune body"):
        encode([Preference("a", "bad-1", "chosen", "%a\n")], 32, 0)


def test_fingerprint_changes_with_what_the_batches_depend_on():
    base = loader().fingerprint
    assert base == loader().fingerprint
    other = loader()
    other.log_probs[0] += 1
    assert len({base, loader(rows=5).fingerprint, loader(seed=1).fingerprint, other.fingerprint}) == 4


def test_reference_log_probs_are_computed_once_and_kept(tmp_path):
    config = ModelConfig(64, 1, 1, 128, dropout=0.3)
    params = random_params(config)
    pieces = encode(
        [*PIECES, piece("a", "long", "chosen", 30), piece("a", "more", "chosen", 9)], config.patch_length, 0
    )
    path = tmp_path / "reference.json"
    said: list[str] = []
    found = reference_log_probs(path, config, params, pieces, rows=3, say=said.append)
    # Padded to the whole window, and in the order of the file.
    whole = pad([patches for _, patches in pieces], config.patch_length)
    expected = [reference._log_probability(config, params, whole[n : n + 3]) for n in range(0, len(whole), 3)]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5)
    kept = {row["name"]: row["log_prob"] for row in json.loads(path.read_text())["pieces"]}
    assert kept["a-0"] == pytest.approx(found[0])
    said.clear()
    np.testing.assert_array_equal(
        reference_log_probs(path, config, params, pieces, rows=3, say=said.append), found
    )
    assert not said
    params["char_decoder"]["wte"] = params["char_decoder"]["wte"] * 2
    assert reference_log_probs(path, config, params, pieces, 3, said.append)[0] != found[0]
