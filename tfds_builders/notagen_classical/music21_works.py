"""The labelled classical scores of music21's corpus."""

import re
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.labels import period_of
from tfds_builders.music21_corpus import COMPOSERS, corpus_scores, corpus_tree, is_second_encoding
from tfds_builders.works import Listing, Work

# First match wins; what no line matches gets the label that follows from its parts.
_INSTRUMENTATIONS = (
    (r"bach/bwv846\.", "Keyboard"),
    (r"bach/|beach/|monteverdi/", "Choral"),
    (r"chopin/|cpebach/|joplin/|schoenberg/|mozart/k545|schumann_clara/polonaise", "Keyboard"),
    (r"handel/|liliuokalani/|schubert/|schumann_robert/(dichterliebe|opus48)", "Art Song"),
    (r"beethoven/|corelli/|haydn/|mozart/|schumann_clara/|schumann_robert/|weber/|webern/", "Chamber"),
)


def music21_works(corpus: Path | None = None) -> Listing:
    """List the corpus (music21's own folder by default). Raises `NotaGenError` without music21."""
    tree = corpus_tree(corpus)
    listing = Listing(other_files=tree.other_files)
    for file, path in tree.scores.items():
        folder = file.split("/")[0]
        if folder not in COMPOSERS:
            listing.leave_out("no composer of the three periods", file)
            continue
        if is_second_encoding(file, tree):
            listing.leave_out("another encoding of a score that is there", file)
            continue
        composer = COMPOSERS[folder]
        period = period_of(*composer)
        if period is None:
            raise NotaGenError(f"{composer.label} belongs to none of the three periods")
        given = next(((label,) for pattern, label in _INSTRUMENTATIONS if re.match(pattern, file)), ())
        listing.works += [
            Work(found.name, found.score, found.work, composer.label, period, given)
            for found in corpus_scores(file, path)
        ]
    return listing
