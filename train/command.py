"""The command line that every training stage shares."""

import logging
import sys
from collections.abc import Callable

import tyro

from notagen_jax.errors import NotaGenError
from train.config import RunConfig


def main(
    experiments: dict[str, tuple[str, RunConfig]], train: Callable[[RunConfig], object], description: str
) -> None:
    """Parse `EXPERIMENT [--field value …]`, train, and exit: 1 with one message on a mendable error."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        config = tyro.extras.overridable_config_cli(experiments, description=description)
        train(config)
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
