"""A data set as one `.npz` file that numpy alone reads, for machines without TFDS and array_record.

Each split holds its index, the packed texts of its pieces one after the other with where each ends,
and their names and labels. Reading one key unpacks the 15 of its piece: slower than the rows of a
built data set, and ten times smaller.
"""

import json
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from notagen_jax.errors import NotaGenError
from notagen_jax.files import atomic_stream
from notagen_jax.score import KEYS
from tfds_builders.records import INDEX, pack_texts, unpack_texts

SUFFIX = ".npz"
LABELS = ("period", "composer", "instrumentation")
_PARTS = ("index", "texts", "ends", "pieces")


class ExportedRows:
    """The rows of one split, in the form of the builders (`train.corpus.Rows`)."""

    def __init__(self, index: np.ndarray, texts: bytes, ends: np.ndarray, pieces: list[Any]) -> None:
        self.index = index
        """`INDEX` (pieces,)."""
        self._texts, self._ends, self._pieces = texts, ends, pieces
        self._last: tuple[int, list[str]] = (-1, [])

    def __len__(self) -> int:
        return len(KEYS) * len(self.index)

    def __getitem__(self, row: int) -> dict[str, Any]:
        piece, key = divmod(row, len(KEYS))
        if not 0 <= piece < len(self.index):
            raise IndexError(row)
        name, *labels = self._pieces[piece]
        return {
            "name": name.encode(),
            **{field: label.encode() for field, label in zip(LABELS, labels, strict=True)},
            "original_key": int(self.index["original_key"][piece]),
            "key": key,
            "patches": int(self.index["patches"][piece, key]),
            "text": self._piece(piece)[key].encode(),
        }

    def _piece(self, piece: int) -> list[str]:
        number, texts = self._last
        if number != piece:
            start = int(self._ends[piece - 1]) if piece else 0
            texts = unpack_texts(self._texts[start : int(self._ends[piece])])
            self._last = piece, texts
        return texts

    def prompts(self) -> set[tuple[str, str, str]]:
        """The labels of its pieces; unlabelled pieces have none."""
        return {(period, composer, label) for _, period, composer, label in self._pieces if composer}


def write_exported(path: str, name: str, splits: Mapping[str, tuple[np.ndarray, Iterable[Any]]]) -> None:
    """Write the splits of a data set called `name`: of each, its index and the 15 rows of each piece.

    The file appears whole or not at all. Raises `NotaGenError` when it cannot be written.
    """
    arrays = {"name": _bytes(name.encode())}
    for split, (index, pieces) in splits.items():
        packed, described = [], []
        for rows in pieces:
            packed.append(pack_texts([row["text"].decode() for row in rows], level=9))
            described.append([rows[0][field].decode() for field in ("name", *LABELS)])
        contents = (
            np.asarray(index),
            _bytes(b"".join(packed)),
            np.cumsum([len(one) for one in packed], dtype=np.int64),
            _bytes(json.dumps(described).encode()),
        )
        arrays |= {f"{split}/{part}": array for part, array in zip(_PARTS, contents, strict=True)}
    with atomic_stream(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


@lru_cache(maxsize=8)
def read_exported(path: str) -> tuple[str, dict[str, ExportedRows]]:
    """The name of an exported data set and its splits. Raises `NotaGenError` when the file is broken."""
    try:
        with np.load(path, allow_pickle=False) as file:
            name = file["name"].tobytes().decode()
            splits = {key.split("/")[0] for key in file if "/" in key}
            read = {split: [file[f"{split}/{part}"] for part in _PARTS] for split in sorted(splits)}
        rows = {
            split: ExportedRows(index, texts.tobytes(), ends, json.loads(pieces.tobytes()))
            for split, (index, texts, ends, pieces) in read.items()
        }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise NotaGenError(f"{path}: not an exported data set ({error}); export it again") from error
    for split, part in rows.items():
        if part.index.dtype != INDEX:
            raise NotaGenError(f"{path}: the {split} split is of another version; export it again")
    return name, rows


def _bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)
