"""The closest training piece: copies are found whatever their key, header and annotations."""

import json
from pathlib import Path

import pytest

from eval.similarity import sampled, training_pieces
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import decode, encode_training
from notagen_jax.score import read_piece
from train.clamp_dpo.copying import RUN, Closest, KnownPieces, keyless, runs
from train.corpus import Corpus

DATA = Path(__file__).parent / "data"
SONGS = ("hensel_sehnsucht", "duchambge_ronde", "brahms_ich_schell")


@pytest.fixture(scope="module")
def pieces() -> KnownPieces:
    rows = [
        {"name": name.encode(), "text": text.encode()}
        for name in SONGS
        for text in read_piece(DATA / f"{name}.mxl").reduced_all().values()
    ]
    return training_pieces([Corpus("songs", rows)])


@pytest.mark.parametrize("key", ["C", "F#", "Db"])
def test_a_copy_is_found_in_any_key(pieces, key):
    text = read_piece(DATA / "duchambge_ronde.mxl").reduced(key)
    # As a model writes it: stream headers, and a prompt before it.
    drawn = "%Romantic\n%Duchambge, Pauline\n%Art Song\n%end\n" + decode(encode_training(text))
    assert "[r:0/" in drawn
    found = pieces.closest(drawn)
    assert found.piece == "songs: duchambge_ronde"
    # A note that a key spells otherwise takes the runs over it.
    assert found.containment > 0.95


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
    short = "[V:1]" + "CDEF|GABc|edcB|AGFE|" * 2
    long = short + "C4|d4|E4|f4|" * 4
    assert KnownPieces([("long", long)]).closest(short) == ("long", 1.0)
    assert 0.3 < KnownPieces([("short", short)]).closest(long).containment < 0.9
    assert KnownPieces([("other", "[V:1]z4|")]).closest(short) == Closest(None, 0.0)
    assert KnownPieces([]).closest(short) is None
    assert len(runs("x" * (RUN - 1))) == 0


def test_a_piece_has_one_form_in_all_keys():
    assert keyless("K:C\n[r:0/0][V:1]C^F, (e) z2|") == keyless("K:D\n[V:1]D=G,f z2|")
    assert keyless("[V:1]CE|") != keyless("[V:1]CF|")
    assert keyless("[V:1]C2E|") != keyless("[V:1]CE2|")


def test_samples_are_read_from_texts_and_from_lines(tmp_path):
    lines = tmp_path / "samples.jsonl"
    lines.write_text(json.dumps({"name": "a-0", "text": "K:C\n"}) + "\nbroken\n")
    song = DATA / "reduced_bach_bwv379.abc"
    found = sampled([song, lines])
    assert next(found) == (str(song), song.read_text())
    assert next(found) == (f"{lines}:a-0", "K:C\n")
    with pytest.raises(NotaGenError, match="line 2: not a sample"):
        next(found)
