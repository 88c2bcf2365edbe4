"""K iterations of CLaMP-DPO, each stage a whole file: done stages are skipped, a killed run goes on.

RUN/settings.json                  what the run was started with
RUN/prompts.json                   prompts with their counts of ground truth; why some are left out
RUN/ground_truth.safetensors       features of the ground truth
RUN/evaluation/K/                  samples of the policy after K iterations, to judge it by
    samples.jsonl features.safetensors pieces.jsonl metrics.json
RUN/iteration-K/                   from the policy K−1 to the policy K
    samples.jsonl features.safetensors   (without evaluation samples of their own: evaluation/K−1)
    candidates.jsonl preferences.jsonl
    dpo/                           the training run, with reference.json
    policy/                        the policy K, a converted checkpoint
RUN/report.json, RUN/report.md     counts and scores so far
"""

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from notagen_jax import checkpoints
from notagen_jax.checkpoints import Checkpoint
from notagen_jax.checkpoints.directory import is_checkpoint_directory
from notagen_jax.checkpoints.training import STEPS_FOLDER
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic
from notagen_jax.sampling import SamplingSettings
from train.clamp_dpo import evaluation, report, selection
from train.clamp_dpo.config import ClampDPOConfig, SamplingConfig, pinned
from train.clamp_dpo.features import Judge, features_of
from train.clamp_dpo.ground_truth import Account, choose_styles, read_styles
from train.clamp_dpo.samples import Drawn, Purpose, draw, piece_seed, requests
from train.clamp_dpo.selection import GroundTruth, Heard, hear
from train.dpo.preferences import read_preferences, write_preferences
from train.dpo.stage import train_on_preferences

SETTINGS_FILE = "settings.json"
PROMPTS_FILE = "prompts.json"
Say = Callable[[str], None]


class Stopped(Exception):
    """The training of an iteration was asked to stop and has saved; the same command goes on."""


class Driver:
    """One run of CLaMP-DPO in its folder."""

    def __init__(self, config: ClampDPOConfig, open_judge: Callable[[str], Judge], say: Say) -> None:
        """Raises `NotaGenError` when the folder holds a run with other settings."""
        self.config = config
        self.run = config.run
        self._say = say
        self._judge = functools.cache(lambda: open_judge(config.clamp2))
        check_settings(config)

    @functools.cached_property
    def account(self) -> Account:
        """The prompts of the run."""
        config = self.config
        styles = read_styles(config.ground_truth, config.split)
        known = checkpoints.open_stored(config.checkpoint).labels
        account = choose_styles(styles, known, config.more_than, config.most_prompts, config.prompts)
        write_atomic(self.run / PROMPTS_FILE, json.dumps(account.rows(), indent=1) + "\n")
        return account

    @functools.cached_property
    def truth(self) -> GroundTruth:
        """The ground truth with its features."""
        styles = self.account.used
        texts = [piece.text for style in styles for piece in style.pieces]
        say = self._saying("ground truth")
        features = features_of(self.run / "ground_truth.safetensors", self._judge, texts, say)
        return GroundTruth(styles, features)

    def iteration(self, k: int) -> Path:
        """Folder of the iteration that makes the policy k, k from 1."""
        return self.run / f"iteration-{k}"

    def policy(self, k: int) -> Checkpoint:
        """The policy after k iterations; k = 0 is the checkpoint that the run starts from."""
        return checkpoints.load(self.config.checkpoint if k == 0 else self.iteration(k) / "policy")

    def go(self) -> dict[str, Any]:
        """Run every stage that is not done, write the report and return it."""
        self.evaluate(0)
        for k in range(1, self.config.iterations + 1):
            if not is_checkpoint_directory(self.iteration(k) / "policy"):
                self.select(k)
                self.learn(k)
            self.evaluate(k)
        return self.report(self.config.iterations)

    def evaluate(self, k: int) -> None:
        """Draw the evaluation samples of the policy k and judge them."""
        folder = self._evaluation_folder(k)
        if not (folder / "metrics.json").is_file():
            say = self._saying(f"evaluation, K = {k}")
            drawn = self._evaluation_samples(k, say)
            heard, features = self._hear(folder, drawn, say)
            pieces = evaluation.evaluate(heard, features, self.truth)
            evaluation.write_evaluated(folder / "pieces.jsonl", pieces)
            metrics = evaluation.by_style(pieces)
            write_atomic(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
        self._say(f"K = {k}: {report.sentence(folder)}")
        self.report(k)

    def select(self, k: int) -> None:
        """Draw the samples of iteration k from the policy k − 1, judge them and choose."""
        folder = self.iteration(k)
        if (folder / "preferences.jsonl").is_file():
            return
        config = self.config
        say = self._saying(f"iteration {k}")
        if config.evaluation_samples:
            source, drawn = folder, self._draw(folder, config.samples, "selection", k, k - 1, say)
        else:
            source, drawn = self._evaluation_folder(k - 1), self._evaluation_samples(k - 1, say)
        heard, features = self._hear(source, drawn, say)
        if self._above > 0.5:
            say(
                f"{self._above:.0%} of the ground-truth pieces have another one at a cosine above "
                f"{config.plagiarism:g}: the judge tells no copies, they are told note by note alone"
            )
        candidates: list[selection.Candidate] = []
        start = 0
        for style in self.truth.styles:
            of_style = [sample for sample in heard if sample.drawn.style == style.name]
            scored = sum(sample.text is not None for sample in of_style)
            candidates += selection.judge_style(
                of_style,
                features[start : start + scored],
                self.truth,
                style.name,
                config.filters,
            )
            start += scored
        selection.write_candidates(folder / "candidates.jsonl", candidates)
        counts = selection.counts(candidates)
        say(report.counted(counts))
        if not counts["chosen"] or not counts["rejected"]:
            raise NotaGenError(
                f"{folder / 'candidates.jsonl'}: nothing to learn from, {report.counted(counts)}; start "
                "another --run with more --samples, or let --misaligned or --copying pass more"
            )
        write_preferences(
            folder / "preferences.jsonl",
            selection.preferences(candidates, drawn, self.truth.styles),
        )

    def learn(self, k: int) -> None:
        """DPO of iteration k, from the policy k − 1 to the policy k."""
        folder = self.iteration(k)
        before = self.policy(k - 1)
        preferences = read_preferences(folder / "preferences.jsonl")
        # Another seed each time: the iterations are not to draw the same places of their pairs.
        seed = piece_seed(self.config.seed, "training", k, "", 0) % 2**31
        finished = train_on_preferences(
            self.config.dpo, folder / "dpo", seed, before, preferences, self._saying(f"iteration {k}, DPO")
        )
        if finished is None:
            raise Stopped(f"iteration {k}, DPO")
        policy = folder / "policy"
        checkpoints.save(policy, before.config, finished, labels=before.labels, advice=before.advice)
        # What they led to is the policy; they take three times its room each.
        shutil.rmtree(folder / "dpo" / STEPS_FOLDER, ignore_errors=True)

    def report(self, done: int) -> dict[str, Any]:
        """Write what is known after `done` iterations."""
        found = report.collect(self.run, self.account, self._above, done)
        write_atomic(self.run / "report.json", json.dumps(found, indent=1) + "\n")
        write_atomic(self.run / "report.md", report.markdown(found))
        return found

    @functools.cached_property
    def _above(self) -> float:
        """Share of the ground-truth pieces with another one above the limit of plagiarism."""
        return self.truth.share_above(self.config.plagiarism)

    def _evaluation_folder(self, k: int) -> Path:
        return self.run / "evaluation" / str(k)

    def _evaluation_samples(self, k: int, say: Say) -> list[Drawn]:
        """The samples that the policy k is judged by; without own ones those of the next selection."""
        folder, count = self._evaluation_folder(k), self.config.evaluation_samples
        if count:
            return self._draw(folder, count, "evaluation", k, k, say)
        return self._draw(folder, self.config.samples, "selection", k + 1, k, say)

    def _draw(
        self, folder: Path, count: int, purpose: Purpose, iteration: int, policy: int, say: Say
    ) -> list[Drawn]:
        config = self.config
        wanted = requests(self.account.used, count, config.seed, purpose, iteration)
        settings = SamplingSettings(
            top_k=config.sampling.top_k,
            top_p=config.sampling.top_p,
            temperature=config.sampling.temperature,
            bar_attempts=config.sampling.bar_attempts,
            max_chars=config.sampling.max_chars,
            max_seconds=float("inf"),
        )
        return draw(folder, lambda: self.policy(policy), wanted, settings, config.sampling.batch, say)

    def _hear(self, folder: Path, drawn: Sequence[Drawn], say: Say) -> tuple[list[Heard], np.ndarray]:
        """The samples as notation, and the features of those that have a text."""
        heard = [hear(sample) for sample in drawn]
        texts = [sample.text for sample in heard if sample.text is not None]
        if not texts:
            reasons = sorted({sample.fault or "" for sample in heard})
            raise NotaGenError(
                f"{folder}: none of {len(heard)} samples can be judged ({'; '.join(reasons[:3])}); "
                "start from a checkpoint that writes whole pieces"
            )
        return heard, features_of(folder / "features.safetensors", self._judge, texts, say)

    def _saying(self, stage: str) -> Say:
        return lambda text: self._say(f"{stage}: {text}")


def check_settings(config: ClampDPOConfig) -> None:
    """Write the settings of a new run, or compare with those that it was started with.

    Raises `NotaGenError` naming the settings that changed; the number of iterations may, and all may
    while no prompt of the run is known.
    """
    path = config.run / SETTINGS_FILE
    settings = pinned(config)
    if not path.is_file() or not (config.run / PROMPTS_FILE).is_file():
        write_atomic(path, json.dumps(settings, indent=1) + "\n")
        return
    try:
        before = json.loads(read_text(path, "choose another --run folder"))
    except ValueError as error:
        raise NotaGenError(f"{path}: not a JSON file ({error}); choose another --run folder") from error
    if isinstance(before.get("sampling"), dict):
        # A setting that came after the run was started is what it was without it.
        before["sampling"] = {**dataclasses.asdict(SamplingConfig()), **before["sampling"]}
    names = settings.keys() | before.keys()
    changed = sorted(name for name in names if settings.get(name) != before.get(name))
    if changed:
        raise NotaGenError(
            f"{config.run}: this run was started with another {', '.join(changed)} ({SETTINGS_FILE} tells "
            "which); set them as they were, or choose another --run folder"
        )
