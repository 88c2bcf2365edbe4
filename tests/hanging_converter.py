"""A conversion that never ends, for a worker that is to be found at work."""

import time

from notagen_jax.score.folder import Job, prepare_score
from notagen_jax.score.journal import Written


def prepare_score_or_hang(job: Job) -> Written:
    """`prepare_score`, but for the score of the name `3`."""
    if job.name == "3":
        time.sleep(600)
    return prepare_score(job)
