"""Pieces sampled at every evaluation: what share of them parses and aligns."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from notagen_jax import lora
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.labels import Prompt
from notagen_jax.notation import check, restore_rests
from notagen_jax.sampling import Sample, SamplingInterrupted, SamplingSettings, generate
from train.config import RunConfig
from train.step import Params


def sampled_pieces(
    config: RunConfig, model: ModelConfig, prompts: Sequence[Prompt]
) -> Callable[[int, Params, Params, Callable[[], bool]], dict[str, float]]:
    """The `samples` of a likelihood stage: pieces for `prompts` in turn, the same seeds at every evaluation.

    A model that is trained without prompts begins its pieces by itself. The texts and what is wrong
    with them go to `samples/STEP.jsonl` in the run folder.
    """
    count = config.samples.count
    starts = [""] * count
    if config.data.prompts and prompts:
        starts = [prompts[index * len(prompts) // count % len(prompts)].lines() for index in range(count)]
    settings = SamplingSettings(max_patches=config.samples.patches, max_seconds=60 * config.samples.minutes)

    def samples(step: int, params: Params, frozen: Params, stopped: Callable[[], bool]) -> dict[str, float]:
        def interrupt(_: object) -> None:
            if stopped():
                raise KeyboardInterrupt

        if config.lora.rank:
            params = lora.merge(frozen, params, config.lora)
        try:
            pieces = generate(model, params, starts, range(count), settings, interrupt)
        except SamplingInterrupted:
            return {}
        verdicts = [verdict(piece) for piece in pieces]
        lines = "".join(json.dumps(line) + "\n" for line in verdicts)
        write_atomic(config.run / "samples" / f"{step}.jsonl", lines)
        return {
            name: sum(line[name] for line in verdicts) / count for name in ("finished", "parses", "aligned")
        }

    return samples


def verdict(piece: Sample) -> dict[str, Any]:
    """What a sampled piece is worth, and its text, as a tree that `json.dumps` takes.

    parses: its rests can be restored and it has notes; aligned: all voices agree in bar count, bar
    lines and durations; fault: the first thing that is wrong.
    """
    line: dict[str, Any] = {"seed": piece.seed, "patches": piece.patches, "finished": piece.finished}
    try:
        validity = check(restore_rests(piece.text))
    except NotaGenError as error:
        return {**line, "parses": False, "aligned": False, "fault": str(error), "text": piece.text}
    return {
        **line,
        "parses": validity.notes > 0,
        "aligned": validity.aligned,
        "fault": validity.first_fault,
        "text": piece.text,
    }
