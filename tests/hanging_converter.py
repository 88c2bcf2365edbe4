"""Conversions that never end, for runs that are to be found at work when they are cut short."""

import time

from notagen_jax.score.folder import Job, prepare_score
from notagen_jax.score.journal import Written
from tfds_builders.conversion import Converted, convert
from tfds_builders.works import Work


def prepare_score_or_hang(job: Job) -> Written:
    """`prepare_score`, but for the score of the name `3`."""
    if job.name == "3":
        time.sleep(600)
    return prepare_score(job)


def convert_or_hang(work: Work) -> tuple[Converted, bytes]:
    """`convert`, but for the score of the name `song.mxl`."""
    if work.name == "song.mxl":
        time.sleep(600)
    return convert(work)
