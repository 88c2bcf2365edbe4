"""The command line that every training stage shares."""

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.errors import NotaGenError

Config = TypeVar("Config")


def quieten() -> None:
    """Keep Orbax and its event loop from logging pages about what is raised as one message."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def main(
    experiments: dict[str, tuple[str, Config]], train: Callable[[Config], object], description: str
) -> None:
    """Parse `EXPERIMENT [--field value …]`, train, and exit: 1 with one message on a mendable error."""
    quieten()
    try:
        config = tyro.extras.overridable_config_cli(experiments, description=description)
        enable_compilation_cache()
        train(config)
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
