"""The `notagen` command: one module for each subcommand."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

from notagen_jax.cli import convert, generate, loglik, prepare, render, score
from notagen_jax.errors import NotaGenError

RUN: dict[type, Callable[[Any], int]] = {
    generate.Generate: generate.run,
    convert.Convert: convert.run,
    loglik.LogLik: loglik.run,
    render.Render: render.run,
    prepare.Prepare: prepare.run,
    score.Score: score.run,
}

Command = (
    Annotated[generate.Generate, tyro.conf.subcommand("generate")]
    | Annotated[convert.Convert, tyro.conf.subcommand("convert")]
    | Annotated[loglik.LogLik, tyro.conf.subcommand("loglik")]
    | Annotated[render.Render, tyro.conf.subcommand("render")]
    | Annotated[prepare.Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[score.Score, tyro.conf.subcommand("score")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a subcommand and exit: 0 done, 1 with one message on a mendable error, 2 on wrong usage."""
    try:
        options = tyro.cli(
            Command,  # type: ignore[arg-type]
            prog="notagen",
            description="Compose classical sheet music, and prepare, convert, judge and engrave scores.",
            args=arguments,
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
        )
        status = RUN[type(options)](options)
    except NotaGenError as error:
        print(f"notagen: error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("notagen: interrupted; files already written are whole", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        # The reader of our output has gone; keep the interpreter from complaining at shutdown.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)
