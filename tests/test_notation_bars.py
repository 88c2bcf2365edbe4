"""Durations and note counts of single bars, by hand from the ABC 2.1 standard."""

from fractions import Fraction

import pytest

from notagen_jax.notation.bars import Timing, meter_length, read_bar

EIGHTHS = Timing(unit=Fraction(1, 8), meter=Fraction(1))


@pytest.mark.parametrize(
    ("text", "eighths", "notes"),
    [
        ("c2 d2 e2 f2|", 8, 4),
        ("c/ d// e3/2 f/4 g3/4|", Fraction(13, 4), 5),
        ("^^c'2 __B,,2 =e2-|", 6, 3),
        ("[CEG]2 [C2E2]3 [^F_A]/|", Fraction(17, 2), 7),
        ("a>b c<<d|", 4, 4),
        ('a>"^dolce"!f!b|', 2, 2),
        ("(3abc (3:2:2a2b|", 4, 5),
        ("(5:4:5abcde (2ab|", 7, 7),
        ("(3:2:4a(3:2:3b/c/d/e|", Fraction(7, 3), 5),
        ("(3:2:3a2/3b2/3c2/3|", Fraction(4, 3), 3),
        ("(1:1:3G43/64F43/64A43/64|", 2, 3),
        ("{/g}a2 {[ce]d}b2|", 4, 6),
        ('"^a|c"!<(!a!<)! "Cm7"Tb.c (de)-|', 5, 5),
        ("z4 x4|", 8, 0),
        ("Z|", 8, 0),
        ("[M:3/4]Z|", 6, 0),
        ("[L:1/4]ab [L:1/16]cd|", 5, 4),
        ("[K:Gb] [I:staff +1]a2 [Q:1/4=60]b2|", 4, 2),
        ("c4&e2f2|", 4, 3),
        ("|: c8:|2", 8, 1),
        ("y2 c8|]", 8, 1),
    ],
)
def test_duration_and_notes(text, eighths, notes):
    bar, _ = read_bar(text, EIGHTHS)
    assert bar.faults == ()
    assert bar.duration == Fraction(eighths) / 8
    assert bar.notes == notes


def test_bar_lines_and_volta():
    bar, _ = read_bar("|: c8:|2", EIGHTHS)
    assert (bar.opening, bar.closing, bar.volta) == ("|:", ":|", "2")
    bar, _ = read_bar('"^Fine" c8|]', EIGHTHS)
    assert (bar.opening, bar.closing, bar.volta) == ("", "|]", "")


def test_five_notes_take_three_in_compound_time():
    bar, _ = read_bar("(5abcde|", EIGHTHS.after_field("M:6/8"))
    assert bar.duration == Fraction(3, 8)


def test_fields_hold_for_the_bars_behind():
    _, timing = read_bar("[M:3/4][L:1/16]a12|", EIGHTHS)
    assert timing == Timing(unit=Fraction(1, 16), meter=Fraction(3, 4))
    bar, _ = read_bar("a12|", timing)
    assert bar.duration == Fraction(3, 4)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[CE c2|", "an unclosed chord"),
        ("C]E c2|", "a chord that was never opened"),
        ("c2 [] d2|", "an empty chord"),
        ('c2 "^dolce d2|', "an unclosed quote"),
        ("c2 !f d2|", "an unclosed decoration"),
        ("c2 {de f2|", "unclosed grace notes"),
        ("c2 d} f2|", "grace notes that were never opened"),
        ("(3ab|", "the tuplet (3 lacks 1 of its notes"),
        ("(0:0:2ab|", "the tuplet (0:0:2 means nothing"),
        ("(11ab|", "the tuplet (11 means nothing"),
        ("(3:2:3a(3:2:3bcd e|", "tuplets that overlap"),
        ("a>|", "a broken rhythm without a second note"),
        (">ab|", "a misplaced '>'"),
        ("a3/0|", "a length that is none in 'a3/0'"),
        ("a99999999999b|", "a length that is none in 'a99999999999'"),
        ("a/9999b|", "a length that is none in 'a/9999'"),
        ("(2:3:9(2:3:9(2:3:9(2:3:9(2:3:9aaaaaaaaa|", "the tuplet (2:3:9 means nothing"),
        ("Z4|", "a rest of 4 bars inside one bar"),
        ("a2 ? b2|", "a stray '?'"),
        ("a2 [V:2 b2|", "an unclosed field [V:"),
        ("a2|b2|", "a bar line inside the bar"),
        ("a2 b2", "no bar line at the end"),
        ("a4&b2|", "overlaid voices of unequal length"),
    ],
)
def test_faults_are_named(text, fault):
    assert fault in read_bar(text, EIGHTHS)[0].faults


@pytest.mark.parametrize(
    ("meter", "length"),
    [
        ("4/4", 1),
        ("C", 1),
        ("C|", 1),
        ("3+2/8", Fraction(5, 8)),
        ("none", None),
        ("6/8", Fraction(3, 4)),
        ("2/0", None),
    ],
)
def test_meter_length(meter, length):
    assert meter_length(meter) == length
