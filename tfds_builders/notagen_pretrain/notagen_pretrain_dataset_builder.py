"""TFDS builder `notagen_pretrain`: scores of any kind in 15 keys, without labels."""

from typing import Any, ClassVar

import tensorflow_datasets as tfds

from notagen_jax.errors import NotaGenError
from tfds_builders.notagen_pretrain.sources import folder_scores, music21_scores
from tfds_builders.score_builder import ScoreBuilder
from tfds_builders.selection import Rules
from tfds_builders.works import Listing


class Builder(ScoreBuilder):
    """Scores for pre-training, each in 15 keys, without labels, titles and lyrics; at least 8 bars; no
    music twice; splits by work (paper section 3.1)."""

    RULES: ClassVar[Rules] = Rules(least_bars=8)
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name="music21", description="All of music21's corpus."),
        tfds.core.BuilderConfig(name="folder", description="Any tree of scores."),
    ]

    def listing(self, dl_manager: Any) -> Listing:
        """The scores of the configuration. Raises `NotaGenError`."""
        if self.builder_config.name == "music21":
            return music21_scores()
        if not self._source:
            raise NotaGenError(f"config {self.builder_config.name} needs a source folder of scores")
        return folder_scores(self._source)
