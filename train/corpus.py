"""Built data sets, read piece by piece in any key."""

import dataclasses
import json
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text
from notagen_jax.score import KEYS
from tfds_builders.exported import LABELS, SUFFIX, read_exported
from tfds_builders.records import INDEX, index_file, lengths, prompt_lines, prompt_patches
from train.config import DataConfig
from train.keys import possible_keys


class Rows(Protocol):
    """Records in the form of the builders: row 15·piece + key, fields `text`, `period` and so on."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class ChosenRows:
    """The rows of some pieces of a split."""

    rows: Rows
    pieces: np.ndarray
    """int (n,): their numbers in the split."""

    def __len__(self) -> int:
        return len(self.pieces) * len(KEYS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        piece, key = divmod(index, len(KEYS))
        return self.rows[int(self.pieces[piece]) * len(KEYS) + key]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One split of one data set."""

    name: str
    """The data set and its configuration, such as `notagen_classical/music21`."""
    rows: Rows
    stored_index: Path | np.ndarray | None = None
    """The index (`tfds_builders.records.INDEX`) or its file; without it is made by reading every row."""
    prompts: set[tuple[str, str, str]] | None = None
    """The labels of its pieces; None: found by reading the rows."""

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.rows) // len(KEYS)

    @cached_property
    def index(self) -> np.ndarray:
        """`INDEX` (pieces,): lengths and original keys, mapped from the file.

        Raises `NotaGenError` when the file is broken or does not belong to the rows.
        """
        stored = self.stored_index
        if isinstance(stored, np.ndarray):
            return stored
        if stored is None or not stored.is_file():
            return self._made_index()
        try:
            index = np.load(stored, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise NotaGenError(f"{stored}: broken ({error}); build the data set again") from error
        if index.dtype != INDEX or index.shape != (len(self),):
            raise NotaGenError(
                f"{stored}: not the index of these {len(self)} pieces; build the data set again"
            )
        return index

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: an index that is mapped from a file is mapped again, not sent."""
        state = dict(self.__dict__)
        if self.stored_index is not None:
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

    def labels(self) -> set[tuple[str, str, str]]:
        """The labels that its pieces have, as `label` gives them; unlabelled pieces have none."""
        if self.prompts is not None:
            return self.prompts
        return {label for label in map(self.label, range(len(self))) if all(label)}

    def piece_name(self, piece: int) -> str:
        """The stable name of a piece: the path of its score in the collection it was built from."""
        return self.rows[piece * len(KEYS)]["name"].decode()


def longest_patches(corpus: Corpus, keys: str, prompts: bool) -> np.ndarray:
    """Patches of each piece in the longest of the keys that it may be drawn in: int32 (pieces,).

    `keys` and `prompts` are those of `DataConfig`; with `prompts` the prompt's lines count too.
    """
    index = corpus.index
    possible = possible_keys(keys)[index["original_key"]]
    longest = np.where(possible, index["patches"], 0).max(axis=1)
    return longest + index["prompt"] if prompts else longest


def without_long(corpus: Corpus, config: DataConfig) -> Corpus:
    """The pieces of a corpus that `config.longest` keeps.

    Raises `NotaGenError` when that is none.
    """
    if not config.longest:
        return corpus
    patches = longest_patches(corpus, config.keys, config.prompts)
    pieces = np.flatnonzero(patches <= config.longest)
    if len(pieces) == len(patches):
        return corpus
    if not len(pieces):
        raise NotaGenError(
            f"{corpus.name}: none of {len(patches)} pieces has at most data.longest ({config.longest}) "
            f"patches, the shortest has {patches.min()}; give a larger data.longest (0: no limit), or other "
            "sources"
        )
    return Corpus(corpus.name, ChosenRows(corpus.rows, pieces), corpus.index[pieces])


def open_corpus(folder: str, split: str) -> Corpus:
    """Open one split ("train", "validation") of a built data set by its folder, or of an exported file.

    Raises `NotaGenError` when there is no data set, the split is missing or broken, or tfds is not
    installed (which an exported file does not need).
    """
    if folder.endswith(SUFFIX):
        name, exported = read_exported(folder)
        if split not in exported:
            raise NotaGenError(f"{folder}: holds no {split} split, only {', '.join(exported)}")
        return Corpus(name, exported[split], exported[split].index, exported[split].prompts())
    splits = _splits(folder)
    if split not in splits:
        raise NotaGenError(f"{folder}: the data set has no {split} split, only {', '.join(splits) or 'none'}")
    rows = splits[split]
    if not len(rows) or len(rows) % len(KEYS):
        raise NotaGenError(
            f"{folder}: the {split} split holds {len(rows)} rows, not 15 a piece; build it again"
        )
    index = Path(folder) / index_file(split)
    return Corpus("/".join(Path(folder).parts[-3:-1]), rows, index, _prompts(folder, split))


def _prompts(folder: str, split: str) -> set[tuple[str, str, str]] | None:
    """The labels in a split as the builder wrote them beside the rows; None where it did not."""
    try:
        prompts = json.loads(read_text(Path(folder) / "metadata.json", "build the data set again"))["prompts"]
        return {tuple(prompt[label] for label in LABELS) for prompt in prompts if prompt[split]}
    except (NotaGenError, ValueError, KeyError, TypeError):
        return None


def has_held_out(folder: str) -> bool:
    """Whether a data set is large enough to have a validation split with pieces in it."""
    if folder.endswith(SUFFIX):
        return "validation" in read_exported(folder)[1]
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
