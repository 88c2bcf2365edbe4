"""The files of a split: which pieces stand in which, and how their rows are written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from notagen_jax.score import KEYS
from tfds_builders.journal import Journal
from tfds_builders.records import INDEX
from tfds_builders.selection import Kept

MOST_CHARACTERS = 128 * 2**20
"""Text in one file; the last piece may exceed it."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a split: its path, the row of its first piece in the split, and its pieces.

    Called, it yields its numbered rows (an example generator of TFDS).
    """

    path: str
    first_row: int
    pieces: tuple[Kept, ...]
    journal: str

    def __call__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        journal, row = Journal(self.journal), self.first_row
        try:
            for piece in self.pieces:
                converted = piece.entry.converted
                assert converted is not None
                for key, text in enumerate(journal.texts(piece.entry)):
                    yield (
                        row,
                        {
                            "name": piece.name,
                            "composer": piece.composer,
                            "period": piece.period,
                            "instrumentation": piece.instrumentation,
                            "original_key": converted.original_key,
                            "key": key,
                            "patches": converted.patches[key],
                            "text": text,
                        },
                    )
                    row += 1
        finally:
            journal.close()

    @property
    def rows(self) -> int:
        """How many rows it has: 15 a piece."""
        return len(KEYS) * len(self.pieces)


def cut(pieces: Sequence[Kept], most_characters: int = MOST_CHARACTERS) -> list[tuple[Kept, ...]]:
    """Cut a split's pieces into those of each file; it depends on the pieces alone."""
    files: list[list[Kept]] = [[]]
    used = 0
    for piece in pieces:
        if files[-1] and used >= most_characters:
            files.append([])
            used = 0
        files[-1].append(piece)
        used += piece.entry.converted.characters if piece.entry.converted else 0
    return [tuple(file) for file in files]


def write(shard: Shard, features: Any, writer: Any) -> None:
    """Write one file, one row at a time, with a TFDS example writer."""
    import tensorflow_datasets as tfds

    serializer = tfds.core.ExampleSerializer(features.get_serialized_info())
    examples = ((row, features.encode_example(example)) for row, example in shard())
    writer.write(shard.path, ((row, serializer.serialize_example(example)) for row, example in examples))


def index_of(pieces: Sequence[Kept]) -> np.ndarray:
    """`INDEX` (pieces,) of a split."""
    index = np.zeros(len(pieces), INDEX)
    for number, piece in enumerate(pieces):
        converted = piece.entry.converted
        assert converted is not None
        index[number] = (converted.patches, piece.prompt_patches, converted.original_key)
    return index
