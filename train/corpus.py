"""Built data sets, read piece by piece in any key."""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from notagen_jax.errors import NotaGenError
from notagen_jax.score import KEYS
from tfds_builders.records import INDEX, index_file, lengths, prompt_lines, prompt_patches

LABELS = ("period", "composer", "instrumentation")


class Rows(Protocol):
    """Records in the form of the builders: row 15·piece + key, fields `text`, `period` and so on."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One split of one data set."""

    name: str
    """The data set and its configuration, such as `notagen_classical/music21`."""
    rows: Rows
    index_path: Path | None = None
    """File of the index (`tfds_builders.records.INDEX`); without one it is made by reading every row."""

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.rows) // len(KEYS)

    @cached_property
    def index(self) -> np.ndarray:
        """`INDEX` (pieces,): lengths and original keys, mapped from the file.

        Raises `NotaGenError` when the file is broken or does not belong to the rows.
        """
        if self.index_path is None or not self.index_path.is_file():
            return self._made_index()
        try:
            index = np.load(self.index_path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise NotaGenError(f"{self.index_path}: broken ({error}); build the data set again") from error
        if index.dtype != INDEX or index.shape != (len(self),):
            raise NotaGenError(
                f"{self.index_path}: not the index of these {len(self)} pieces; build the data set again"
            )
        return index

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: an index that is mapped from a file is mapped again, not sent."""
        state = dict(self.__dict__)
        if self.index_path is not None:
            state.pop("index", None)
        return state

    def _made_index(self) -> np.ndarray:
        index = np.zeros(len(self), INDEX)
        for piece in range(len(self)):
            rows = [self.rows[piece * len(KEYS) + key] for key in range(len(KEYS))]
            try:
                patches = lengths([row["text"].decode() for row in rows])
            except NotaGenError as error:
                raise NotaGenError(f"{self.name}, piece {piece} {error}") from error
            labels = (rows[0][label].decode() for label in LABELS)
            index[piece] = (patches, prompt_patches(*labels), rows[0]["original_key"])
        return index

    def original_key(self, piece: int) -> int:
        """Index in `KEYS` of the key that the piece was written in."""
        return int(self.index["original_key"][piece])

    def text(self, piece: int, key: int, prompt: bool) -> str:
        """Reduced text of a piece in a key, headed by the prompt's lines and `%end` if asked."""
        row = self.rows[piece * len(KEYS) + key]
        text = row["text"].decode()
        return prompt_lines(*(row[label].decode() for label in LABELS)) + text if prompt else text

    def label(self, piece: int) -> tuple[str, str, str]:
        """Period, composer and instrumentation of a piece."""
        row = self.rows[piece * len(KEYS)]
        return row["period"].decode(), row["composer"].decode(), row["instrumentation"].decode()

    def piece_name(self, piece: int) -> str:
        """The stable name of a piece: the path of its score in the collection it was built from."""
        return self.rows[piece * len(KEYS)]["name"].decode()


def open_corpus(folder: str, split: str) -> Corpus:
    """Open one split ("train", "validation") of a built data set by its folder.

    Raises `NotaGenError` when the folder holds no data set, the split is missing or broken, or tfds
    is not installed.
    """
    splits = _splits(folder)
    if split not in splits:
        raise NotaGenError(f"{folder}: the data set has no {split} split, only {', '.join(splits) or 'none'}")
    rows = splits[split]
    if not len(rows) or len(rows) % len(KEYS):
        raise NotaGenError(
            f"{folder}: the {split} split holds {len(rows)} rows, not 15 a piece; build it again"
        )
    return Corpus("/".join(Path(folder).parts[-3:-1]), rows, Path(folder) / index_file(split))


def has_held_out(folder: str) -> bool:
    """Whether a built data set is large enough to have a validation split with pieces in it."""
    return len(_splits(folder).get("validation", ())) > 0


def _splits(folder: str) -> dict[str, Rows]:
    """The splits of a built data set by name."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise NotaGenError(
            "reading data sets needs the data extra: pip install 'notagen-jax[data]'"
        ) from error
    if not (Path(folder) / "dataset_info.json").is_file():
        raise NotaGenError(
            f"{folder}: no built data set here; build one with `python -m tfds_builders.build`"
        )
    return dict(tfds.builder_from_directory(folder).as_data_source())
