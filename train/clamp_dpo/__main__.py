"""K iterations of CLaMP-DPO in one command: `python -m train.clamp_dpo mini --ground-truth FOLDER…`."""

import sys

from notagen_jax import clamp2
from train.clamp_dpo.config import ClampDPOConfig
from train.clamp_dpo.driver import Driver, Stopped
from train.command import main
from train.configs import CLAMP_DPO
from train.progress import say_to_stderr


def run(config: ClampDPOConfig) -> None:
    """Run or go on with a run, and tell where its report is."""
    try:
        Driver(config, clamp2.load, say_to_stderr).go()
    except Stopped as stopped:
        say_to_stderr(f"{stopped}: stopped; the same command goes on from here")
        return
    except KeyboardInterrupt:
        say_to_stderr("interrupted; files already written are whole, and the same command goes on from here")
        sys.exit(130)
    say_to_stderr(f"done: {config.run / 'report.md'}; `python -m eval.table2 {config.run}` makes the table")


if __name__ == "__main__":
    main(CLAMP_DPO, run, "Improve a fine-tuned model by CLaMP-DPO.")
