"""Sentences about a piece's labels: the texts that the packaged judge was trained with.

The published CLaMP 2 reads titles, descriptions and summaries; open corpora carry a period, a
composer and an instrumentation, so the sentences say these.
"""

import numpy as np

from notagen_jax.clamp2.tokenizer import SEPARATOR
from notagen_jax.labels import Prompt

_KINDS = {
    "Keyboard": "keyboard piece",
    "Chamber": "chamber work",
    "Orchestral": "orchestral work",
    "Art Song": "art song",
    "Choral": "choral work",
    "Vocal-Orchestral": "work for voices and orchestra",
}

_SENTENCES = (
    "A {period} {kind} by {composer}",
    "A {period} {kind} composed by {name}",
    "{name}: {a} {kind} of the {period} period",
    "This {kind} was written by {name} in the {period} period",
    "{composer}, {kind}, {period}",
    "Music of the {period} period by {name}, {a_kind}",
)
_PHRASES = ("{period}", "{period} period", "{composer}", "{name}", "{instrumentation}", "{a_kind}")
"""Candidates of text dropout: one label each."""


def label_sentence(prompt: Prompt) -> str:
    """The sentence that asks for pieces of these labels: "A Romantic art song by Schubert, Franz"."""
    return _SENTENCES[0].format(**_words(prompt))


def all_texts(prompt: Prompt) -> list[str]:
    """Every sentence and phrase about these labels."""
    return [form.format(**_words(prompt)) for form in (*_SENTENCES, *_PHRASES)]


def sample_text(prompt: Prompt, rng: np.random.Generator) -> str:
    """One text about these labels, by text dropout (official code).

    Half the time a whole sentence; else each phrase with one chance in two (all when none is taken),
    in random order, as parts joined by the separator.
    """
    words = _words(prompt)
    if rng.random() < 0.5:
        return str(rng.choice(_SENTENCES)).format(**words)
    phrases = [form.format(**words) for form in _PHRASES]
    kept = [phrase for phrase in phrases if rng.random() < 0.5] or phrases
    return SEPARATOR.join(kept[place] for place in rng.permutation(len(kept)))


def _words(prompt: Prompt) -> dict[str, str]:
    last, _, first = prompt.composer.partition(", ")
    kind = _KINDS.get(prompt.instrumentation, f"{prompt.instrumentation.lower()} work")
    article = "an" if kind[0] in "aeiou" else "a"
    return {
        "a": article,
        "period": prompt.period,
        "kind": kind,
        "a_kind": f"{article} {kind}",
        "instrumentation": prompt.instrumentation,
        "composer": prompt.composer,
        "name": f"{first} {last}".strip(),
    }
