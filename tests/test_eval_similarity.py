"""The closest training piece: copies are found whatever their key, header and annotations."""

import json
from pathlib import Path

import pytest

from eval.similarity import RUN, TrainingPieces, containment, runs, sampled
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import decode, encode_training
from notagen_jax.score import read_piece
from train.corpus import Corpus

DATA = Path(__file__).parent / "data"
SONGS = ("hensel_sehnsucht", "duchambge_ronde", "brahms_ich_schell")


@pytest.fixture(scope="module")
def pieces() -> TrainingPieces:
    rows = [
        {"name": name.encode(), "text": text.encode()}
        for name in SONGS
        for text in read_piece(DATA / f"{name}.mxl").reduced_all().values()
    ]
    return TrainingPieces([Corpus("songs", rows)])


@pytest.mark.parametrize("key", ["C", "F#"])
def test_a_copy_is_found_in_any_key(pieces, key):
    text = read_piece(DATA / "duchambge_ronde.mxl").reduced(key)
    # As a model writes it: stream headers, and a prompt before it.
    drawn = "%Romantic\n%Duchambge, Pauline\n%Art Song\n%end\n" + decode(encode_training(text))
    assert "[r:0/" in drawn
    assert pieces.closest(drawn) == ("songs: duchambge_ronde", 1.0)


def test_half_a_copy_counts_half(pieces):
    metadata, *bars = read_piece(DATA / "duchambge_ronde.mxl").reduced("C").partition("[V:")
    other = read_piece(DATA / "brahms_ich_schleich.mxl").reduced("C")
    lines = "".join(bars).splitlines(keepends=True)
    mixed = metadata + "".join(lines[: len(lines) // 2]) + other[other.index("[V:") :]
    found = pieces.closest(mixed)
    assert found.piece == "songs: duchambge_ronde"
    assert 0.1 < found.containment < 0.9


def test_other_music_is_far(pieces):
    found = pieces.closest((DATA / "reduced_bach_bwv379.abc").read_text())
    assert found.containment < 0.1


def test_containment_is_of_the_sample():
    short, long = "abcdefgh" * 8, "abcdefgh" * 8 + "z" * 2 * RUN
    assert containment(runs(short), runs(long)) == 1.0
    assert containment(runs(long), runs(short)) < 1.0
    assert len(runs("x" * (RUN - 1))) == 0
    assert containment(runs(""), runs(long)) == 0.0


def test_samples_are_read_from_texts_and_from_lines(tmp_path):
    lines = tmp_path / "samples.jsonl"
    lines.write_text(json.dumps({"name": "a-0", "text": "K:C\n"}) + "\nbroken\n")
    song = DATA / "reduced_bach_bwv379.abc"
    found = sampled([song, lines])
    assert next(found) == (str(song), song.read_text())
    assert next(found) == (f"{lines}:a-0", "K:C\n")
    with pytest.raises(NotaGenError, match="line 2: not a sample"):
        next(found)
