"""What the data sets of scores share: from a listing of works to array_record files, index and card.

Runs without TensorFlow. Converting is done once a score, by worker processes of this machine or by
Apache Beam, into a journal that outlives a killed build; then the pieces are chosen and written.
"""

import abc
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.score.batch import SECONDS_A_PIECE, Done, run_isolated
from tfds_builders import shards
from tfds_builders.account import Account
from tfds_builders.card import card, prompt_counts
from tfds_builders.conversion import convert
from tfds_builders.journal import Journal, new_segment
from tfds_builders.records import index_file
from tfds_builders.selection import Kept, Rules, select
from tfds_builders.shards import Shard
from tfds_builders.works import Listing, Work

REPORT = "build_report.json"
CARD = "README.md"

Tell = Callable[[str, int, int], None]
"""Progress: what is done, how many of it, out of how many."""


class ScoreBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A data set of pieces in 15 keys; a subclass lists the works and gives the rules."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "2.0.0": "An index of lengths beside the rows; rows in the order of a hash of the names.",
        "1.0.0": "15 keys a piece, splits by work.",
    }
    RULES: ClassVar[Rules]
    """What this data set asks of a score."""

    def __init__(
        self,
        *,
        source: str = "",
        journal: str = "",
        processes: int = 1,
        seconds: float = SECONDS_A_PIECE,
        beam: str | None = None,
        tell: Tell | None = None,
        **arguments: Any,
    ) -> None:
        """
        source: folder of the scores, for the configurations that read one
        journal: folder of what has been converted (see `tfds_builders.journal`)
        processes, seconds: how many scores at the same time, and how long one may take
        beam: pipeline options of Apache Beam, which then converts and writes; None: this machine does
        The rest goes to the TFDS builder.
        """
        self._source, self._processes, self._seconds, self._beam = source, processes, seconds, beam
        self._tell = tell or (lambda what, done, total: None)
        self.account = Account()
        super().__init__(**arguments)
        self._journal = journal or f"{self.data_dir}.journal"

    @property
    def journal(self) -> Path:
        """Folder of what has been converted."""
        return Path(self._journal)

    @abc.abstractmethod
    def listing(self, dl_manager: Any) -> Listing:
        """The works to build from; raises `NotaGenError` when the source cannot be read."""

    def _info(self) -> tfds.core.DatasetInfo:
        text, number = tfds.features.Text, tfds.features.Scalar
        return self.dataset_info_from_configs(
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "name": text(doc="Stable id: the score's path in its collection, `:tune` after it."),
                    "composer": text(doc='"Last, First", ASCII; empty without labels.'),
                    "period": text(),
                    "instrumentation": text(),
                    "original_key": number(np.int32, doc="Index of the score's own key."),
                    "key": number(np.int32, doc="Index of this row's key."),
                    "patches": number(np.int32, doc="Patches of this row's text, begin and end included."),
                    "text": text(doc="Rest-reduced interleaved ABC."),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Shard]]:
        """The files of each split, each a generator of its rows."""
        files: dict[str, list[Shard]] = {}
        for split, pieces in self._choose(dl_manager).items():
            template = self._get_filename_template(split_name=split)
            parts = shards.cut(pieces)
            row, files[split] = 0, []
            for number, part in enumerate(parts):
                path = template.sharded_filepath(shard_index=number, num_shards=len(parts))
                files[split].append(Shard(str(path), row, part, self._journal))
                row += files[split][-1].rows
        return files

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        """Convert, choose, write. TFDS gives a temporary folder that becomes the data set at the end."""
        files = self._shard_iterators_per_split(dl_manager)
        self._write([shard for side in files.values() for shard in side])
        infos = [
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[shard.rows for shard in side],
                num_bytes=sum(os.path.getsize(shard.path) for shard in side),
                filename_template=self._get_filename_template(split_name=split),
            )
            for split, side in files.items()
        ]
        self.info.set_splits(tfds.core.SplitDict(infos))
        kept = {split: [piece for shard in side for piece in shard.pieces] for split, side in files.items()}
        self.info.metadata.update(prompts=prompt_counts(kept))
        folder = Path(self.data_dir)
        for split, pieces in kept.items():
            with (folder / index_file(split)).open("wb") as stream:
                np.save(stream, shards.index_of(pieces))
        write_atomic(folder / REPORT, json.dumps(self.account.report(), indent=1) + "\n")
        title = f"{self.name}/{self.builder_config.name} {self.version}"
        description = f"{type(self).__doc__}\n{self.builder_config.description or ''}"
        write_atomic(folder / CARD, card(title, description, kept, self.account))

    def _choose(self, dl_manager: Any) -> dict[str, list[Kept]]:
        """The pieces of each split that has any; raises `NotaGenError` when there is none at all."""
        listing = self.listing(dl_manager)
        if not listing.works:
            raise NotaGenError(f"no score to build from; {_summary(listing)}")
        names = [work.name for work in listing.works]
        if len(set(names)) < len(names):
            raise NotaGenError(f"two scores have the name {max(names, key=names.count)}")
        self._convert(listing.works)
        entries = Journal(self._journal).entries(listing.works)
        changed = [name for name in names if name not in entries]
        if changed:
            raise NotaGenError(
                f"{changed[0]}: changed while it was read ({len(changed)} scores in all); start again, "
                "which reads those anew"
            )
        kept, self.account = select(listing, entries, self.RULES)
        kept = {split: side for split, side in kept.items() if side}
        if not kept:
            raise NotaGenError(
                f"none of the {self.account.found} scores can be used; {self.account.summary()}"
            )
        return kept

    def _convert(self, works: Sequence[Work]) -> None:
        """Convert the works that the journal does not hold."""
        done = Journal(self._journal).entries(works)
        todo = [work for work in works if work.name not in done]

        def told(number: int) -> None:
            self._tell("converting", len(done) + number, len(works))

        told(0)
        if not todo:
            return
        if self._beam is not None:
            from tfds_builders import beam_run

            beam_run.convert_all(todo, self._journal, self._seconds, self._beam, told)
            return
        with new_segment(self._journal) as segment:
            outcomes = run_isolated(convert, map(segment.begin, todo), self._processes, self._seconds)
            for number, outcome in enumerate(outcomes, 1):
                segment.add(outcome.item, outcome.value if isinstance(outcome, Done) else outcome.refusal)
                told(number)

    def _write(self, files: Sequence[Shard]) -> None:
        """Write every file."""
        writer, features = self._example_writer(), self.info.features
        self._tell("writing", 0, len(files))
        if self._beam is not None:
            from tfds_builders import beam_run

            beam_run.write_all(files, features, writer, self._beam)
            self._tell("writing", len(files), len(files))
            return
        for number, shard in enumerate(files, 1):
            shards.write(shard, features, writer)
            self._tell("writing", number, len(files))


def _summary(listing: Listing) -> str:
    account = Account(dropped=listing.left_out)
    return account.summary() or "the source holds no score file"
