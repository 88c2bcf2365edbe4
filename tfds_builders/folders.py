"""The score files of a folder tree, and the works in a file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.score import Score, is_score, scores_in
from notagen_jax.score.listing import walk


@dataclass
class Tree:
    """What a folder holds: score files by their path inside it, and the paths of all others, sorted."""

    scores: dict[str, Path] = field(default_factory=dict)
    other_files: list[str] = field(default_factory=list)


def read_tree(folder: str | Path) -> Tree:
    """Find the score files of a folder and all below it; hidden files and folders are passed over.

    Raises `NotaGenError` when there is no such folder, or one cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotaGenError(f"{folder}: no such folder")
    tree = Tree()
    for path in walk(folder):
        if is_score(path):
            tree.scores[inside(path, folder)] = path
        else:
            tree.other_files.append(inside(path, folder))
    tree.scores = dict(sorted(tree.scores.items()))
    tree.other_files.sort()
    return tree


def inside(path: Path, folder: Path) -> str:
    """A file's path inside a folder, with `/`; bytes that are no UTF-8 are written as `\\xNN`."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def named_scores(name: str, path: Path) -> Iterator[tuple[str, Score]]:
    """The scores in a file with a name for each: the file's, with `:tune` where it holds several."""
    for score in scores_in(path):
        yield (f"{name}:{score.tune}" if score.tune else name), score
