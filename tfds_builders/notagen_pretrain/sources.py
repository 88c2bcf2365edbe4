"""The scores to pre-train on: music21's corpus, or any tree of scores. They carry no labels."""

from pathlib import Path, PurePosixPath

from tfds_builders.folders import named_scores, read_tree
from tfds_builders.music21_corpus import corpus_scores, corpus_tree, is_second_encoding
from tfds_builders.works import Listing, Work, work_key

_LEFT_OUT = {
    "demos": "a demonstration or an exercise",
    "theoryExercises": "a demonstration or an exercise",
    "leadSheet": "a lead sheet",
    "josquin": "no bar lines",
}
"""Folders of music21's corpus that are no music to learn from."""


def music21_scores(corpus: Path | None = None) -> Listing:
    """List all of the corpus (music21's own folder by default). Raises `NotaGenError` without music21."""
    tree = corpus_tree(corpus)
    listing = Listing(other_files=tree.other_files)
    for file, path in tree.scores.items():
        if (reason := _LEFT_OUT.get(file.split("/")[0])) is not None:
            listing.leave_out(reason, file)
        elif is_second_encoding(file, tree):
            listing.leave_out("another encoding of a score that is there", file)
        else:
            listing.works += [Work(f.name, f.score, f.work) for f in corpus_scores(file, path)]
    return listing


def folder_scores(folder: str | Path) -> Listing:
    """List every score of a folder tree; raises `NotaGenError` when there is no such folder.

    Files of one folder whose names differ only in their suffix, or share a catalogue number, count as
    one work.
    """
    tree = read_tree(folder)
    listing = Listing(other_files=tree.other_files)
    for file, path in tree.scores.items():
        parent, stem = str(PurePosixPath(file).parent), PurePosixPath(file).stem
        listing.works += [
            Work(name, score, work_key(parent, f"{stem} {score.tune}"))
            for name, score in named_scores(file, path)
        ]
    return listing
