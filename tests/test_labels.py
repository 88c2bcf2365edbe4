"""The labels: the official 112 prompts, periods by years, checks and suggestions."""

from collections import Counter

import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.labels import INSTRUMENTATIONS, PERIODS, PROMPTS, Prompt, nearest, period_of


def test_the_112_prompts():
    assert len(PROMPTS) == len(set(PROMPTS)) == 112
    assert Counter(prompt.period for prompt in PROMPTS) == {"Baroque": 15, "Classical": 17, "Romantic": 80}
    assert {prompt.period for prompt in PROMPTS} == set(PERIODS)
    assert {prompt.instrumentation for prompt in PROMPTS} == set(INSTRUMENTATIONS)
    assert Prompt("Romantic", "Holmes, Augusta Mary Anne", "Art Song") in PROMPTS
    assert Prompt("Baroque", "Bach, Johann Sebastian", "Choral") in PROMPTS
    assert Prompt("Classical", "Mozart, Wolfgang Amadeus", "Vocal-Orchestral") in PROMPTS
    assert Prompt("Romantic", "Chopin, Frederic", "Orchestral") not in PROMPTS


def test_lines():
    prompt = Prompt("Baroque", "Bach, Johann Sebastian", "Choral")
    assert prompt.lines() == "%Baroque\n%Bach, Johann Sebastian\n%Choral\n"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("Romantic", "Dvořák, Antonín", "Chamber"), "'ř'"),
        (("Romantic", "", "Chamber"), "composer label ''"),
        (("Romantic ", "Wolf, Hugo", "Chamber"), "period label"),
        (("Romantic", "Wolf, Hugo", "Art\nSong"), "instrumentation label"),
    ],
)
def test_a_label_that_the_text_cannot_hold_is_refused(labels, message):
    with pytest.raises(NotaGenError, match=message):
        Prompt(*labels)


@pytest.mark.parametrize(
    ("composer", "born", "died", "period"),
    [
        ("Beethoven, Ludwig van", 1770, 1827, "Classical"),  # the paper's label, whatever the years
        ("Schubert, Franz", None, None, "Romantic"),
        ("Purcell, Henry", 1659, 1695, "Baroque"),
        ("Bach, Carl Philipp Emanuel", 1714, 1788, "Classical"),
        ("Alkan, Charles-Valentin", 1813, 1888, "Romantic"),
        ("Somebody, Young", 1850, None, "Romantic"),
        ("Somebody, Old", None, 1700, "Baroque"),
        ("Palestrina, Giovanni Pierluigi da", 1525, 1594, None),
        ("Adams, John", 1947, None, None),
        ("Unknown, Anna", None, None, None),
    ],
)
def test_period_of(composer, born, died, period):
    assert period_of(composer, born, died) == period


def test_nearest_offers_the_composers_own_combinations_first():
    offers = nearest(("Romantic", "Chopin, Fryderyk", "Orchestral"))
    assert {(prompt.composer, prompt.instrumentation) for prompt in offers[:2]} == {
        ("Chopin, Frederic", "Art Song"),
        ("Chopin, Frederic", "Keyboard"),
    }
    assert nearest(("baroque", "bach", "choral"))[0] == Prompt("Baroque", "Bach, Johann Sebastian", "Choral")
    known = [Prompt("Romantic", "Wolf, Hugo", "Art Song")]
    assert nearest(Prompt("Romantic", "Wolff, Hugo", "Art Song"), known) == known
