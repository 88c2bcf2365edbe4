"""TFDS builder `notagen_classical`: classical scores in 15 keys with period, composer, instrumentation."""

from typing import Any, ClassVar

import tensorflow_datasets as tfds

from notagen_jax.errors import NotaGenError
from tfds_builders.notagen_classical.folder_works import folder_works
from tfds_builders.notagen_classical.music21_works import music21_works
from tfds_builders.notagen_classical.openscore_works import openscore_works
from tfds_builders.score_builder import ScoreBuilder
from tfds_builders.selection import Rules
from tfds_builders.works import Listing


class Builder(ScoreBuilder):
    """Classical scores for fine-tuning, each in 15 keys and labelled with its period, composer and
    instrumentation; at most 16 staves; no music twice; splits by work (paper section 3.1)."""

    RULES: ClassVar[Rules] = Rules(most_staves=16, labelled=True)
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name="music21", description="The classical scores of music21's corpus."),
        tfds.core.BuilderConfig(
            name="openscore", description="The OpenScore Lieder and String Quartets (CC0 1.0)."
        ),
        tfds.core.BuilderConfig(name="folder", description="A folder with scores and a metadata.csv."),
    ]

    def listing(self, dl_manager: Any) -> Listing:
        """The labelled scores of the configuration. Raises `NotaGenError`."""
        if self.builder_config.name == "music21":
            return music21_works()
        if self.builder_config.name == "openscore":
            return openscore_works(self._source, dl_manager)
        if not self._source:
            raise NotaGenError(f"config {self.builder_config.name} needs a source folder with a metadata.csv")
        return folder_works(self._source)
