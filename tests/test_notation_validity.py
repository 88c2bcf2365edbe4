"""Planted faults, each found and named with its bar and voice; real scores pass."""

import contextlib
import json
import random
import time

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.notation import check, restore_rests
from tests.notation_pieces import SCORES, as_generated, piece

SONG = "reichardt_nachtlied"


def song_with(old: str, new: str) -> str:
    """The song with its first `old` replaced."""
    text = piece(SONG)
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize("name", SCORES)
def test_real_scores_are_sound(name):
    for text in (piece(name), restore_rests(as_generated(piece(name)))):
        validity = check(text)
        assert validity.first_fault is None
        assert validity.ok
        assert validity.aligned
        assert validity.bar_alignment_error == 0.0
        assert len(set(validity.bar_counts.values())) == 1


def test_verdict_on_a_sound_song():
    validity = check(piece(SONG))
    assert (validity.bars, validity.voices, validity.notes) == (10, ("1", "2", "3", "4"), 146)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "[V:1]F F A A|",
            "[V:1]F F A|",
            "bar 2, voice 1: voice 1 lasts 3/8 of a whole note, most voices 1/2",
        ),
        ("[V:3][F,,F,]2 ", "[V:3][F,,F,2 ", "bar 2, voice 3: an unclosed chord"),
        ("V:4 bass", "V:5 bass", "voice 4: %%score names a voice that the header does not declare"),
        ("V:2 treble", "V:2 treble\nV:9 bass", "voice 9: the voice is declared but %%score leaves it out"),
        ("( 3 4 ) }", "( 3 4 )", "%%score has an unmatched '{'"),
        (
            "[V:1]A F B A",
            "[V:1](3A F B A",
            "bar 4, voice 1: voice 1 lasts 3/8 of a whole note, most voices 1/2",
        ),
        ("[V:1]A F B A", "[V:1]A F (3B A", "bar 4, voice 1: the tuplet (3 lacks 1 of its notes"),
        ('"^Zum Schlus."', '"^Zum Schlus.', "bar 10, voice 2: an unclosed quote"),
        ("[V:3]C,2 C,2|", "[V:3]C,2 C,2||", "bar 5: the voices have different bar lines"),
        ("[V:3]C,2 C,2|", "", "bar 5, voice 3: the voice has no bar here"),
        ("[V:3]C,2 C,2|", "[V:3]C,4|[V:3]C,4|", "bar 5, voice 3: the voice stands twice in the bar"),
        ("[V:1]G3 G|", "loose [V:1]G3 G|", "bar 5: the text 'loose ' belongs to no voice"),
        ("[V:1]G3 G|", "w:la la\n[V:1]G3 G|", "bar 5: line 14 belongs to no voice"),
        ("[V:1]G3 G|", "[V:1]G2 G|G|", "bar 5, voice 1: a bar line inside the bar"),
        ("K:Ab", "N:Ab", "the header has no key (K:)"),
        ("V:4 bass", "V:4 bass\nV:4 bass", "voice 4: the header declares the voice 2 times"),
    ],
)
def test_planted_fault_is_named(old, new, fault):
    validity = check(song_with(old, new))
    assert not validity.ok
    assert any(str(found).startswith(fault) for found in validity.faults), validity.faults
    assert "\n" not in validity.first_fault


def test_undeclared_voice():
    validity = check(piece(SONG).replace("V:4 bass \n", "", 1).replace("( 3 4 )", "3"))
    assert validity.undeclared == ("4",)
    assert validity.first_fault == "bar 1, voice 4: the voice is not declared in the header"


def test_truncated_tail():
    generated = as_generated(piece(SONG))
    cut = generated[: generated.rindex("[F,,F,]2 z|]") + 5]
    validity = check(restore_rests(cut))
    assert not validity.ok
    assert [str(fault) for fault in validity.faults if fault.bar == 10][:2] == [
        "bar 10, voice 3: an unclosed chord",
        "bar 10, voice 3: no bar line at the end",
    ]


def test_share_of_misaligned_bars():
    text = song_with("[V:1]F F A A|", "[V:1]F F A|").replace("[V:1]G3 G|", "[V:1]G3 G G|")
    validity = check(text)
    assert [bar.bar for bar in validity.misaligned] == [2, 5]
    assert validity.misaligned[0].durations == {"1": "3/8", "2": "1/2", "3": "1/2", "4": "1/2"}
    assert validity.bar_alignment_error == pytest.approx(0.2)
    assert not validity.aligned


def test_verdict_is_json():
    verdict = json.loads(json.dumps(check(song_with("[V:1]F F A A|", "[V:1]F F A|")).to_json()))
    assert verdict["ok"] is False
    assert verdict["bar_alignment_error"] == pytest.approx(0.1)
    assert verdict["first_fault"].startswith("bar 2, voice 1: ")
    assert verdict["misaligned"][0]["bar"] == 2
    assert verdict["faults"][0]["voice"] == "1"


@pytest.mark.parametrize("text", ["", "%%score 1\nK:C\nV:1\n", "K:C\nV:1\n[V:1]z8|\n"])
def test_a_piece_without_notes_is_not_ok(text):
    validity = check(text)
    assert not validity.ok
    assert "the piece has no notes" in [fault.message for fault in validity.faults]


def test_broken_text_never_raises():
    """Random edits, as a model's slips: each text is refused with a message or judged, no third way."""
    draw = random.Random(7)
    generated = as_generated(piece(SONG))
    verdicts = {True: 0, False: 0}
    for _ in range(150):
        letters = list(generated)
        for _ in range(draw.choice((1, 3, 20))):
            place = draw.randrange(len(letters))
            letters[place : place + draw.randrange(3)] = draw.choices(
                '[]|:(){}<>"!^_,/-3zxCV% \n\\', k=draw.randrange(3)
            )
        try:
            restored = restore_rests("".join(letters))
        except NotaGenError:
            continue
        validity = check(restored)
        json.dumps(validity.to_json())
        verdicts[validity.ok] += 1
    assert verdicts[False] > 100


def runaway(pattern):
    """A hundred thousand characters of a model caught in a loop."""
    return "%%score 1\nL:1/8\nM:4/4\nK:C\nV:1 treble\n" + "".join(pattern(i) for i in range(100_000 // 12))


@pytest.mark.parametrize(
    "pattern",
    [
        lambda i: f"a/{i % 9999 + 1}",
        lambda i: f"[V:1]({i % 999 + 1}:{i % 7 + 1}:999 a",
        lambda i: f"V:{i}\n",
        lambda i: f"[V:{i}]c8|",
        lambda i: f"[V:{i}]c8|\n",
        lambda i: "[V:1][M:" + "9" * 6000 + "/8]c8|\n" if i < 3 else "[",
        lambda i: "[V:1]c>",
        lambda i: '[V:1]"{',
    ],
)
def test_runaway_text_is_judged_in_bounded_time(pattern):
    started = time.process_time()
    for text in (runaway(pattern), runaway(pattern).replace("treble\n", "treble\n[V:1]", 1)):
        with contextlib.suppress(NotaGenError):
            text = restore_rests(text)
        assert not check(text).ok
    assert time.process_time() - started < 20


def test_huge_numbers_in_the_header():
    huge = "9" * 6000
    text = f"L:1/{huge}\nM:{huge}/4\nK:C\nV:{huge}\n[r:{huge}/{huge}][V:{huge}]c{huge}|\n"
    assert "a length that is none" in check(restore_rests(text)).first_fault
