"""One DPO training on a preference file: `python -m train.dpo mini --preferences FILE --init CHECKPOINT`."""

from notagen_jax import checkpoints
from notagen_jax.errors import NotaGenError
from train.command import main
from train.configs import DPO
from train.devices import connect
from train.dpo.config import DPORun
from train.dpo.preferences import read_preferences
from train.dpo.stage import train_on_preferences
from train.progress import say_to_stderr


def run(config: DPORun) -> None:
    """Train, or go on with a run that was stopped."""
    if not config.preferences or not config.init:
        raise NotaGenError(
            "give --preferences a preferences.jsonl, and --init the checkpoint whose samples it holds"
        )
    connect(config.dpo.devices)
    preferences = read_preferences(config.preferences)
    start = checkpoints.load(config.init)
    train_on_preferences(config.dpo, config.run, config.seed, start, preferences, say_to_stderr)


if __name__ == "__main__":
    main(DPO, run, "Train a model on chosen and rejected pieces (DPO, DPO-Positive).")
