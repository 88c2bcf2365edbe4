"""Bars whose voices do not agree are drawn again, from a model that writes many of them."""

import re

import jax
import numpy as np
import pytest

from notagen_jax.config import ModelConfig
from notagen_jax.model import init_params
from notagen_jax.notation import check, restore_rests
from notagen_jax.patches import END_PATCH, encode_piece
from notagen_jax.sampling import SamplingSettings, generate
from notagen_jax.sampling.bars import BarWatch
from notagen_jax.sampling.batch import Batch
from notagen_jax.sampling.decode import unstack
from notagen_jax.sampling.piece import GrowingPiece
from tests.counting_composer import train
from tests.notation_pieces import piece

PROMPT = "%Baroque\n%Bach, J\n%end\nL:1/8\nK:C\nV:1\nV:2\n"
BARS = 8
CONFIG = ModelConfig(hidden_size=64, patch_layers=1, char_layers=1, patch_length=19)
OFTEN = SamplingSettings(bar_attempts=40)


@pytest.fixture(scope="module")
def params():
    """Parameters that write bars `[V:1]C2|[V:2]D~|` with `~` any of 1, 2, 3: a third of them adds up."""
    text = PROMPT + "[V:1]C2|[V:2]D~|\n" * BARS
    assert encode_piece(text).length > CONFIG.patch_length
    return train(CONFIG, text, b"123", steps=400)


@pytest.fixture(scope="module")
def redrawn(params):
    """The pieces of seeds 0 … 7, a bar drawn up to forty times."""
    return generate(CONFIG, params, [PROMPT] * 8, list(range(8)), OFTEN)


def is_whole(text, last="[123]"):
    bars = [rf"\[r:{i}/{BARS - 1 - i}\]\[V:1\]C2\|\[V:2\]D{last}\|\n" for i in range(BARS)]
    return re.fullmatch(re.escape(PROMPT) + "".join(bars), text) is not None


def test_bars_are_drawn_again_until_they_add_up(params, redrawn):
    for sample in redrawn:
        assert is_whole(sample.text, last="2"), sample.text
        assert sample.finished
        assert sample.bars_redrawn > 0
        assert check(restore_rests(sample.text)).ok
        # Two patches a bar, the end patch, and those that a window opened again: none of a redrawn bar.
        assert 2 * BARS + 1 <= sample.patches <= 2 * BARS + 1 + BARS
    assert len({sample.bars_redrawn for sample in redrawn}) > 1


def test_one_attempt_takes_each_bar_as_it_comes(params):
    samples = generate(CONFIG, params, [PROMPT] * 8, list(range(8)))
    assert all(is_whole(sample.text) for sample in samples)
    assert all(sample.bars_redrawn == 0 for sample in samples)
    lengths = "".join("".join(re.findall(r"D(\d)", sample.text)) for sample in samples)
    assert set(lengths) == set("123")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_seed_gives_the_same_piece_whatever_batch_it_rides_in(params, redrawn, batch_size):
    samples = generate(CONFIG, params, [PROMPT] * 3, [6, 1, 4], OFTEN, batch_size=batch_size)
    for sample, seed in zip(samples, (6, 1, 4), strict=True):
        same = redrawn[seed]
        assert (sample.text, sample.patches) == (same.text, same.patches)
        assert sample.bars_redrawn == same.bars_redrawn


def test_a_bar_stands_after_its_last_attempt(params):
    settings = SamplingSettings(bar_attempts=2)
    samples = generate(CONFIG, params, [PROMPT] * 8, list(range(8)), settings)
    assert all(is_whole(sample.text) for sample in samples)
    assert all(0 < sample.bars_redrawn <= BARS for sample in samples)
    # Bars are sound with a chance of 1/3 alone; of two attempts, the second one only after a sound bar, 0.43.
    sound = sum(sample.text.count("D2|") for sample in samples)
    assert 0.35 < sound / (8 * BARS) < 0.75


@pytest.mark.parametrize(
    "given",
    [
        "[r:0/7][V:1]C2|[V:2]D3|\n",  # amiss, but given
        "[r:0/7][V:1]C2|[V:2]D3",  # begun amiss: it may be ended, not taken back
        "[r:0/7][V:1]C2|[V:2]D2|\n[r:1/6][V",
    ],
)
def test_what_is_given_is_never_drawn_again(params, given):
    (sample,) = generate(CONFIG, params, [PROMPT + given], [3], OFTEN)
    assert sample.text.startswith(PROMPT + given)
    assert is_whole(sample.text)
    lengths = re.findall(r"D(\d)", sample.text)
    assert lengths[0] == given[given.index("D") + 1]
    assert set(lengths[1 if given.endswith(("D3", "\n")) else 2 :]) == {"2"}


def test_a_limit_counts_the_patches_that_stand(params, redrawn):
    settings = SamplingSettings(bar_attempts=40, max_patches=6)
    (sample,) = generate(CONFIG, params, [PROMPT], [2], settings)
    assert (sample.patches, sample.finished) == (6, False)
    assert redrawn[2].text.startswith(sample.text)
    assert sample.text.count("D2|") == 3


def test_limits_hold_where_every_bar_fails(params):
    # The header declares no second voice: no bar is ever sound.
    undeclared = PROMPT.replace("V:2\n", "") + "[r:0/7][V:1]C2|[V:2]D2|\n"
    never = SamplingSettings(bar_attempts=1000, max_seconds=1.0)
    (sample,) = generate(CONFIG, params, [undeclared], [0], never)
    assert "not finished after 1 seconds" in sample.reason
    assert sample.bars_redrawn > 0
    assert sample.seconds < 10
    # Each bar that fails halves the attempts of those behind it: 8, 4, 2, 1, 1 …
    (sample,) = generate(CONFIG, params, [undeclared], [0], SamplingSettings(bar_attempts=8))
    assert sample.finished
    assert is_whole(sample.text.replace("K:C\nV:1\n", "K:C\nV:1\nV:2\n"))
    assert sample.bars_redrawn == 7 + 3 + 1
    few = SamplingSettings(bar_attempts=3, max_chars=120)
    (sample,) = generate(CONFIG, params, [undeclared], [0], few)
    assert "120 characters" in sample.reason


def patches_of(*texts: bytes) -> np.ndarray:
    """One closed patch for each text of at most 15 characters."""
    return np.stack([np.frombuffer((text + b"\2").ljust(16, b"\0"), np.uint8) for text in texts])


SOUND = (b"[r:0/0][V:1]C2", b"|[V:2]D2|\n")


@pytest.mark.parametrize("tail", [b"[r", b"[V:1]C2|", b"w:la"])
def test_a_piece_that_ends_behind_a_bar_begun_draws_it_again(tail):
    piece = GrowingPiece(CONFIG, 0, PROMPT, 5, SamplingSettings(bar_attempts=2))
    piece.start()
    assert not piece.add(patches_of(*SOUND))
    kept = piece.text
    assert piece.add(np.stack([*patches_of(tail), END_PATCH]))
    assert (piece.text, piece.bars_redrawn, piece.patches) == (kept, 1, 2)
    assert not piece.add(END_PATCH[None])
    assert piece.sample.finished


def test_every_line_of_a_patch_is_judged():
    piece = GrowingPiece(CONFIG, 0, PROMPT, 5, SamplingSettings(bar_attempts=2))
    piece.start()
    first = PROMPT + "[r:0/0][V:1]C2|[V:2]D2|\n"
    assert piece.add(patches_of(SOUND[0], b"|[V:2]D2|\n[V:3]", b"C|\n[V:1]C"))
    assert (piece.text, piece.bars_redrawn) == (first, 1)


def test_a_piece_that_ends_inside_a_bar_draws_it_again():
    piece = GrowingPiece(CONFIG, 0, PROMPT, 5, SamplingSettings(bar_attempts=2))
    piece.start()
    begun = patches_of(*SOUND)
    cut_off = np.stack([begun[0], END_PATCH])
    assert piece.add(cut_off)
    assert (piece.text, piece.bars_redrawn, piece.patches, piece.drawn) == (PROMPT, 1, 0, 2)
    assert not piece.add(np.stack([*begun, END_PATCH]))
    assert piece.sample.finished
    assert piece.sample.text == PROMPT + "[r:0/0][V:1]C2|[V:2]D2|\n"
    assert (piece.sample.patches, piece.drawn) == (3, 5)


def test_attempts_halve_at_bars_that_fail_and_double_at_sound_ones():
    piece = GrowingPiece(CONFIG, 0, PROMPT, 5, SamplingSettings(bar_attempts=8))
    piece.start()

    def attempts(length: bytes) -> int:
        """How often a bar is drawn until it stands when it comes with this length of its second voice."""
        patches = patches_of(b"[r:0/9][V:1]C2", b"|[V:2]D" + length + b"|\n")
        count = 1
        while piece.add(patches):
            count += 1
        return count

    assert [attempts(b"3") for _ in range(5)] == [8, 4, 2, 1, 1]
    assert not piece.add(patches_of(b"%no bar\n", b"\n", b"%no bar\n"))
    assert [attempts(b"2") for _ in range(2)] == [1, 1]  # 2, then 4 for the next
    assert [attempts(b"3") for _ in range(2)] == [4, 2]
    assert [attempts(b"2") for _ in range(9)] == [1] * 9
    assert attempts(b"3") == 8  # never more than asked for


@pytest.mark.parametrize("bar_start", [63, 64, 65, 70])
def test_the_cache_behind_a_bar_taken_back_is_that_of_the_shorter_window(bar_start):
    config = CONFIG.replace(patch_length=120)
    params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
    batch = Batch(config, unstack(config, params), 2)

    def cached(count: int) -> list[np.ndarray]:
        keys_and_values = (*batch._cache.keys, *batch._cache.values)
        return [np.array(x[1, :, :count]) for x in keys_and_values] + [np.array(batch._cache.vector[1])]

    def opened(lines: int, known: int) -> list[np.ndarray]:
        """The cache of a piece of so many patches of which the first `known` are said to be in it."""
        prompt = "".join(f"%line {n:8d}\n" for n in range(lines - 1))
        piece = GrowingPiece(config, 0, prompt, 5, SamplingSettings())
        piece.cached = known
        batch._open_window(1, piece)
        assert batch._rows.length[1] == piece.cached == lines
        return cached(lines)

    opened(100, 0)
    shortened = opened(bar_start, bar_start)
    for found, expected in zip(shortened, opened(bar_start, 0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


KEYED = "L:1/8\nM:3/4\nK:Gmin\nV:1\nV:2\nV:3\n"
HEADER = "%%score { 1 | 2 }\nL:1/8\nM:3/4\nK:C\nV:1 treble\nV:2 bass\n"


@pytest.mark.parametrize(
    ("line", "sound"),
    [
        ("[r:0/1][V:1]C2 D4|[V:2]C6|\n", True),
        ("[r:0/1][V:1]C2 D4|\n", True),  # the other voice rests
        ("[r:0/1][V:1]C2 D4|[V:2]C5|\n", False),
        ("[r:0/1][V:1]C2 D4|[V:2]C5", True),  # it can still grow
        ("[r:0/1][V:1]C2 D4|[V:2]C5|[V:1]", False),  # no voice is mended by what follows it
        ("[r:0/1][V:1][C2E2 D4|[V:2]", False),  # a chord that never closes
        ("[r:0/1][V:1]C2 D4|[V:2]C6|]\n", False),  # bar lines differ
        ("[r:0/1][V:1]C2 D4|[V:3]C6|[V:2]", False),  # undeclared
        ("[r:0/1][V:1]C2 D4|[V:1]C6|\n", False),  # twice
        ("[r:0/1]C2|[V:1]C2 D4|\n", False),  # of no voice
        ("[r:0/1][V:1]C2 D4\n", False),  # no bar line
        ("[r:0/1][V:1]C2 D2|[V:2]C4|\n", True),  # shorter than the meter, as an upbeat is
        ("[r:0/1][V:1]C2 D6|[V:2]C8|\n", False),  # longer than the meter
        ("[r:0/1][V:1][M:4/4]C2 D6|[V:2][M:4/4]C8|\n", True),
        ("[r:0/1][V:1]C2[M:3/8] D4|[V:2]C6|\n", True),  # the next meter, told at the end of this
        ("[r:0/1][V:1]C2 D4|[V:2]C5|[V:", True),  # the next voice has not begun
        ("[r:0/1][V:", True),
        ("[r", True),
        ("%comment\n", True),
        ("w:words\n", False),
        ("w:wor", False),
        ("\n", True),
    ],
)
def test_a_bar_under_way_is_judged_by_its_closed_voices(line, sound):
    text = HEADER + "[r:0/2][V:1]C2|[V:2]C2|\n"
    watch = BarWatch(text)
    assert watch.line_start == len(text)
    for _ in range(2):  # looking changes nothing
        assert watch.is_sound(text + line) is sound


@pytest.mark.parametrize(
    ("line", "sound"),
    [
        ("[V:1]G2|[V:2][K:Bb]D2|[V:3][K:Bb]G2|\n", True),
        ("[V:1]G2|[V:2][K:F]D2|[V:3]", False),
        ("[V:1]G2|[V:2]D2|[V:3][K:Dmin]G2|\n", False),
        ("[V:1][K:G]G2|[V:2]D2|[V:3]", False),
        ("[V:1][K:G]G2|[V:2][K:G]", True),
        ("[V:1][K:G]G2|[V:2][K:G]D2|[V:3][K:Emin]G2|\n", True),
        ("[V:1][K:G]G2|[V:2][K:G]D2|\n", False),  # the third one rests, and stays in its key
        ("[V:1]G2[K:G]|[V:2]D2[K:G]|[V:3]G2[K:G]|\n", True),
        ("[V:1]G2|[V:2][K:bass]D2|[V:3]G2|\n", True),  # a clef
        ("[V:1]G2|[V:4][K:A]A2|\n", True),  # it transposes
    ],
)
def test_a_bar_sets_no_voice_apart_in_key(line, sound):
    header = KEYED + "V:4 treble transpose=-2\n"
    assert BarWatch(header).is_sound(header + "[r:0/9]" + line) is sound


def test_voices_that_stand_apart_already_are_not_held_against_a_bar():
    apart = KEYED + "[r:0/9][V:1]G2|[V:2][K:F]D2|[V:3]G2|\n"
    watch = BarWatch(apart)
    for _ in range(2):  # looking changes nothing
        assert not watch.is_sound(apart + "[r:1/8][V:1]G2|[V:2]D2|[V:3][K:F]G2|\n")
        assert watch.is_sound(apart + "[r:1/8][V:1]G2|[V:2]D2|[V:3]G2|\n")
        assert watch.is_sound(apart + "[r:1/8][V:1][K:A]G2|[V:2][K:E]D2|[V:3][K:A]G2|\n")


def test_a_bar_is_drawn_again_for_its_keys():
    piece = GrowingPiece(CONFIG, 0, KEYED, 5, SamplingSettings(bar_attempts=2))
    piece.start()
    assert piece.add(patches_of(b"[r:0/9][V:1]G2", b"|[V:2][K:F]D2", b"|[V:3]G2|\n"))
    assert (piece.text, piece.bars_redrawn) == (KEYED, 1)
    assert not piece.add(patches_of(b"[r:0/9][V:1]G2", b"|[V:2][K:Bb]D2", b"|[V:3]G2|\n"))
    assert piece.text == KEYED + "[r:0/9][V:1]G2|[V:2][K:Bb]D2|[V:3]G2|\n"


def test_a_voice_is_judged_once():
    text = HEADER + "[r:0/2][V:1]C2|[V:2]C2|\n[r:1/1][V:1]C2|[V:2]C3|"
    watch = BarWatch(text)
    assert not watch.is_sound(text + "[V:1]")
    assert watch.is_sound(text + "[V:1]C", judged=len(text) + 5)  # as if it had been found sound before
    assert not watch.is_sound(text + "\n", judged=len(text))  # a whole line is judged as a whole


def test_a_bar_thrown_away_leaves_no_trace():
    watch = BarWatch(HEADER)
    assert not watch.is_sound(HEADER + "[r:0/0][V:1]C6|[V:3]C6|\n")
    longer = HEADER + "V:3 bass\n"
    watch.accept(longer)
    assert watch.is_sound(longer + "[r:0/0][V:1]C6|[V:3]C6|\n")


def test_without_a_meter_bars_have_any_length():
    watch = BarWatch(HEADER.replace("M:3/4\n", ""))
    assert watch.is_sound(HEADER.replace("M:3/4\n", "") + "[r:0/0][V:1]C12|[V:2]C12|\n")


def test_what_a_bar_sets_holds_behind_it():
    text = HEADER + "[r:0/2][V:1][L:1/4]C2|[V:2]C4|\n"
    watch = BarWatch(text)
    following = "[r:1/1][V:1]C2|[V:2]C4|\n"
    assert watch.is_sound(text + following)
    assert not watch.is_sound(text + "[r:1/1][V:1]C2|[V:2]C2|\n")
    # A bar that was only looked at changes nothing.
    assert watch.is_sound(text + "[r:1/1][V:1]C2|[V:2][L:1/4]C2|\n")
    assert not watch.is_sound(text + "[r:1/1][V:1]C2|[V:2]C2|\n")
    watch.accept(text + following)
    assert watch.line_start == len(text + following)


def test_the_header_is_not_judged():
    watch = BarWatch("%Baroque\n")
    for end in range(len(HEADER)):
        assert watch.is_sound("%Baroque\n" + HEADER[:end])


def test_verdicts_on_bars_agree_with_the_verdict_on_the_piece():
    """On one real piece with one voice's length changed in every bar, each is told, and no other."""
    lines = piece("bach_generated").splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith("[r:"))
    clean = BarWatch("")
    for i, line in enumerate(lines):
        so_far = "".join(lines[:i])
        clean.accept(so_far)
        assert clean.is_sound(so_far + line)
        if i >= first:
            broken = line.replace("[V:3]", "[V:3]z")
            assert not clean.is_sound(so_far + broken)
            spoilt = check(restore_rests("".join([*lines[:i], broken, *lines[i + 1 :]])))
            assert [bar.bar for bar in spoilt.misaligned] == [i - first + 1]
