"""Our single reading of a tune gives what abctoolkit's reading for each key gives."""

import pytest
from abctoolkit.transpose import transpose_an_abc_text

from notagen_jax.score import KEYS, ScoreError
from notagen_jax.score.spelling import major_key
from notagen_jax.score.transpose import Transposer

TUNES = {
    "accidentals last for a bar": ["c ^c c C =c _c | c ^c2 c c'^c' c' |\n"],
    "accidentals last over a line break": ["c ^c c\n", "c | c |\n"],
    "key changes": ["f g [K:D] f ^g g [K:Ebmin] f g | f g [K:none] a [K:bass] b |\n"],
    "chords and graces": ['[CEG]2 {^fg}[^F,A,^c]4 (3abc "Am7/G"a "^Text A"b "C#dim"c |\n'],
    "decorations": ["!fermata!C !mf!d T.e uf va !D.C.!g |: a :| [1 b || c |]\n"],
    "fields inside": ["[Q:1/4=90] a [M:3/4] b [I:staff +1] c [r:1/2] d |\n"],
    "double accidentals": ["__b ^^f b f __e ^^c |\n"],
    "first bar has no bar line before it": ["^f f f\n"],
    "unclosed quote": ['a "b c | d e |\n'],
    "octaves": ["B,, B, B b b' b'' C,, c'' |\n"],
}


def tune(body: list[str], key: str = "G") -> list[str]:
    header = [
        "%%score { 1 | 2 }\n",
        "L:1/8\n",
        f"K:{key}\n",
        "V:1 treble\n",
        'V:2 perc nm="Drum"\n',
        "K:none\n",
    ]
    return [*header, "V:1\n", *body, "V:2\n", "C ^F | A |\n"]


@pytest.mark.parametrize("name", TUNES)
@pytest.mark.parametrize("key", ["G", "F#min", "Bbdor", "none"])
def test_equals_the_reference_in_every_key(name, key):
    lines = tune(TUNES[name], key)
    ours = Transposer(lines)
    for target in KEYS:
        try:
            reference = transpose_an_abc_text(lines, target)
        except Exception:  # its own way to say that a note has no spelling
            with pytest.raises(ScoreError, match="cannot be written in all 15 keys"):
                ours.lines(target)
            continue
        assert "".join(ours.lines(target)) == "".join(filter(str.strip, reference.splitlines(True))), target


def test_spelled_out():
    written = Transposer(tune(["f ^g =f g | f |\n"])).lines("Eb")
    assert written[2] == "K:Eb\n"
    assert written[7] == "d =e _d e | d |\n"
    assert written[9] == "C ^F | A |\n"  # percussion stays


def test_voice_with_a_key_of_its_own():
    lines = ["K:C\n", "V:1 treble\n", "V:2 treble\n", "K:D\n", "V:1\n", "c f |\n", "V:2\n", "d f |\n"]
    written = Transposer(lines).lines("F")
    assert written == [
        "K:F\n",
        "V:1 treble\n",
        "V:2 treble\n",
        "K:G\n",
        "V:1\n",
        "f b |\n",
        "V:2\n",
        "g b |\n",
    ]


@pytest.mark.parametrize(
    ("field", "expected"),
    [("C", "C"), ("F#min", "A"), ("none", "C"), ("Am", "C"), ("Ddor", "C"), ("G#min", "B")],
)
def test_major_key(field, expected):
    assert major_key(field) == expected


def test_unknown_key_is_refused():
    with pytest.raises(ScoreError, match="K:H"):
        major_key("H")


def test_a_note_without_a_spelling_is_refused():
    with pytest.raises(ScoreError, match=r"in all 15 keys \(Cb: Exception: Cannot find"):
        Transposer(tune(["____b |\n"], "C")).lines("Cb")


def test_a_fault_of_our_own_is_not_taken_for_a_refusal(monkeypatch):
    monkeypatch.setattr("notagen_jax.score.elements._read_note", lambda note, key: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Transposer(tune(["b |\n"])).lines("C")
