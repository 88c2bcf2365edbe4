"""The driver at tiny size: it does what it promises, and killed anywhere it ends with the same files."""

import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from eval import table2
from notagen_jax import checkpoints
from notagen_jax.checkpoints import StoredCheckpoint
from notagen_jax.checkpoints.directory import write_directory
from notagen_jax.checkpoints.layout import tree_shapes, unstack
from notagen_jax.clamp2 import Clamp2Config
from notagen_jax.clamp2.names import CLAMP2
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import strip_stream_headers
from notagen_jax.sampling import SamplingSettings
from tests.tiny_composer import CONFIG, PROMPTS, NoteJudge, text, train
from train.clamp_dpo import driver
from train.clamp_dpo.config import ClampDPOConfig, SamplingConfig
from train.clamp_dpo.driver import Driver, Stopped, check_settings
from train.clamp_dpo.samples import PARTIAL_FOLDER, SAMPLES_FILE, piece_seed, read_samples
from train.clamp_dpo.selection import read_candidates
from train.config import OptimizerConfig
from train.configs.mini_clamp_dpo import CONFIG as MINI
from train.dpo.__main__ import run as train_by_itself
from train.dpo.config import DPOConfig, DPORun
from train.dpo.pairs import PairLoader
from train.dpo.preferences import read_preferences

LIKED = ("CDEC", "CEDC")
"""What the ground truth of the first prompt sounds like; the second one's uses other notes."""


ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint of the tiny composer and a folder of ground truth for its two prompts."""
    folder = tmp_path_factory.mktemp("world")
    checkpoints.save(folder / "checkpoint", CONFIG, train(), labels=PROMPTS, advice={"top_p": 0.95})
    for prompt, bars in zip(PROMPTS, (LIKED, ("GABG", "GBAG")), strict=True):
        place = folder / "truth" / f"{prompt.period}_{prompt.composer}_{prompt.instrumentation}"
        place.mkdir(parents=True)
        for number in range(11):
            piece = strip_stream_headers(text(prompt, *(bars * (1 + number % 3))))
            (place / f"{number:02d}.abc").write_text(piece)
    return folder / "checkpoint", folder / "truth"


def configuration(run: Path, world: tuple[Path, Path], **changes: object) -> ClampDPOConfig:
    """Two prompts, one iteration, a few steps."""
    settings = dict(
        dpo=DPOConfig(
            CONFIG,
            pairs=2,
            steps=12,
            optimizer=OptimizerConfig(1e-3, warmup_steps=0, clip=1.0),
            log_every=4,
        ),
        run=run,
        checkpoint=str(world[0]),
        ground_truth=(str(world[1]),),
        iterations=1,
        samples=20,
        evaluation_samples=0,
        plagiarism=1.0,
        sampling=SamplingConfig(max_chars=400, batch=8),
    )
    return ClampDPOConfig(**{**settings, **changes})


def drive(config: ClampDPOConfig, say=lambda _: None) -> dict:
    return Driver(config, lambda _: NoteJudge(), say).go()


def contents(run: Path) -> dict[str, bytes]:
    """Every file that a run leaves, the log with its times apart."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and "dpo/" not in str(path.relative_to(run))
    }


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory) -> tuple[Path, dict]:
    """A run of one iteration that nothing interrupted, and its report."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, drive(configuration(run, world))


@pytest.fixture(scope="module")
def longer(whole, world, tmp_path_factory) -> tuple[Path, dict]:
    """The same run given a second iteration, and its report."""
    run = tmp_path_factory.mktemp("longer") / "run"
    shutil.copytree(whole[0], run)
    return run, drive(configuration(run, world, iterations=2))


def test_a_run_leaves_what_it_promises(whole, world):
    run, report = whole
    folder = run / "iteration-1"
    samples = read_samples(run / "evaluation" / "0" / "samples.jsonl")
    assert len(samples) == 40
    assert all(sample.text.startswith("%Baroque\n%") for sample in samples)
    candidates = read_candidates(folder / "candidates.jsonl")
    assert [c.name for c in candidates] == [sample.name for sample in samples]
    preferences = read_preferences(folder / "preferences.jsonl")
    by_name = {c.name: c for c in candidates}
    for preference in preferences:
        assert by_name[preference.name].verdict == preference.verdict
        assert preference.why == by_name[preference.name].why
        assert preference.why.startswith("rank ")
        assert preference.text == next(s.text for s in samples if s.name == preference.name)
    for prompt in {preference.prompt for preference in preferences}:
        chosen, rejected = (
            [p.score for p in preferences if (p.prompt, p.verdict) == (prompt, verdict)]
            for verdict in ("chosen", "rejected")
        )
        assert len(chosen) == len(rejected) == 2
        assert min(chosen) > max(rejected)
    assert not list(run.rglob("*.partial"))

    counted = report["iterations"][0]["selection"]
    verdicts = ("chosen", "filtered", "between", "rejected", "unranked")
    assert counted["samples"] == sum(counted[verdict] for verdict in verdicts) == 40
    assert report["prompts"] == {"used": 2, "left_out": 0, "ground_truth_pieces": 22}
    assert json.loads((run / "report.json").read_text()) == report
    assert "| 1 | Baroque; A; Solo | 20 |" in (run / "report.md").read_text()

    before, after = checkpoints.load(world[0]), checkpoints.load(folder / "policy")
    assert after.labels == before.labels
    assert after.advice == before.advice == {"top_p": 0.95}
    assert after.config == before.config
    assert not np.array_equal(after.params["char_decoder"]["wte"], before.params["char_decoder"]["wte"])


def test_the_score_rises(whole):
    scores = [row["overall"]["score"] for row in whole[1]["evaluation"]]
    assert scores[1] > scores[0] + 0.02


def test_a_finished_run_is_skipped_and_can_be_given_more(whole, longer, world, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    before = contents(run)
    said: list[str] = []

    class Deaf:
        def music_features(self, texts):
            raise AssertionError("features are there already")

    Driver(configuration(run, world), lambda _: Deaf(), said.append).go()
    assert contents(run) == before
    assert not [line for line in said if "pieces," in line]

    run, report = longer
    assert [row["K"] for row in report["evaluation"]] == [0, 1, 2]
    assert {name: content for name, content in contents(run).items() if name in before} | {
        name: before[name] for name in ("report.json", "report.md")
    } == before
    # Each selection is from the samples that the policy before it is judged by, drawn anew each time.
    drawn = [read_samples(run / "evaluation" / str(k) / "samples.jsonl") for k in range(3)]
    for k in (1, 2):
        candidates = read_candidates(run / f"iteration-{k}" / "candidates.jsonl")
        assert [c.seed for c in candidates] == [sample.seed for sample in drawn[k - 1]]
        assert not (run / f"iteration-{k}" / "samples.jsonl").exists()
    assert len({sample.seed for samples in drawn for sample in samples}) == 120


def test_dpo_by_itself_on_the_preference_file_gives_the_same_policy(whole, world, tmp_path):
    config = configuration(whole[0], world)
    folder = whole[0] / "iteration-1"
    seed = piece_seed(config.seed, "training", 1, "", 0) % 2**31
    train_by_itself(DPORun(config.dpo, folder / "preferences.jsonl", str(world[0]), tmp_path / "run", seed))
    found, expected = checkpoints.load(tmp_path / "run"), checkpoints.load(folder / "policy")
    assert found.labels == expected.labels
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_experiment_of_mini_draws_as_mini_advises():
    advice = checkpoints.open_stored("mini").advice
    assert advice
    assert {name: getattr(MINI.sampling, name) for name in advice} == advice


def test_samples_are_drawn_as_the_settings_say(world, tmp_path, monkeypatch):
    class Drawing(Exception):
        pass

    def note(folder, open_policy, wanted, settings, batch, say):
        raise Drawing(settings, batch)

    monkeypatch.setattr(driver, "draw", note)
    sampling = SamplingConfig(5, 0.7, 0.9, bar_attempts=6, max_chars=400, batch=8)
    with pytest.raises(Drawing) as caught:
        drive(configuration(tmp_path / "run", world, sampling=sampling))
    expected = SamplingSettings(5, 0.7, 0.9, bar_attempts=6, max_chars=400, max_seconds=float("inf"))
    assert caught.value.args == (expected, 8)


def test_other_settings_are_refused(whole, world, tmp_path):
    for changes, named in (({"seed": 1}, "seed"), ({"samples": 30, "portion": 0.2}, "portion, samples")):
        with pytest.raises(NotaGenError, match=f"started with another {named} "):
            drive(configuration(whole[0], world, **changes))
    with pytest.raises(NotaGenError, match="started with another sampling "):
        drive(configuration(whole[0], world, sampling=SamplingConfig(max_chars=400, batch=8, bar_attempts=4)))
    # A setting that a run is older than is what it was before.
    settings = json.loads((whole[0] / "settings.json").read_text())
    older = {name: value for name, value in settings["sampling"].items() if name != "bar_attempts"}
    shutil.copytree(whole[0], tmp_path / "older")
    (tmp_path / "older" / "settings.json").write_text(json.dumps({**settings, "sampling": older}))
    check_settings(configuration(tmp_path / "older", world))
    # Until the prompts are known nothing is spent, so that a first command may be mended.
    unlucky = configuration(tmp_path / "run", world, ground_truth=("nowhere",))
    with pytest.raises(NotaGenError, match="no such folder"):
        drive(unlucky)
    Driver(configuration(tmp_path / "run", world), lambda _: NoteJudge(), lambda _: None)
    with pytest.raises(NotaGenError, match="draw more samples"):
        configuration(whole[0], world, samples=9)


class Killed(BaseException):
    """Ends a run where nothing may catch it."""


def drive_until(config: ClampDPOConfig, place: str, call: int) -> None:
    """Drive until the `call`-th call of the function `place`, instead of which everything stops."""
    original = pkgutil.resolve_name(place)
    calls = 0

    def deadly(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return original(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, deadly)
        with pytest.raises(Killed):
            drive(config)


STAGES = [
    ("samples", "train.clamp_dpo.samples.write_atomic", 7),
    ("between samples and features", "train.clamp_dpo.driver.features_of", 1),
    ("ground truth", "train.clamp_dpo.driver.features_of", 2),
    ("metrics of the evaluation", "train.clamp_dpo.driver.evaluation.by_style", 1),
    ("candidates", "train.clamp_dpo.driver.selection.write_candidates", 1),
    ("preferences", "train.clamp_dpo.driver.write_preferences", 1),
    ("reference", "train.dpo.stage.reference_log_probs", 1),
    ("DPO", "train.dpo.pairs.PairLoader.batch", 8),
    ("policy", "train.clamp_dpo.driver.checkpoints.save", 1),
]
LATER_STAGES = [
    ("samples", "train.clamp_dpo.samples.write_atomic", 30),
    ("candidates", "train.clamp_dpo.driver.selection.write_candidates", 1),
    ("DPO", "train.dpo.pairs.PairLoader.batch", 8),
    ("policy", "train.clamp_dpo.driver.checkpoints.save", 1),
]


def test_killed_in_every_stage_of_every_iteration_a_run_ends_with_the_same_files(longer, world, tmp_path):
    config = configuration(tmp_path / "run", world, iterations=2)
    # A checkpoint of every step: the step that a run goes on from is one between others.
    config = replace(config, dpo=replace(config.dpo, checkpoint_minutes=1e-6))
    for k, stages in ((1, STAGES), (2, LATER_STAGES)):
        for stage, place, call in stages:
            drive_until(config, place, call)
            assert not (config.run / f"iteration-{k}" / "policy").exists(), stage
    drive(config)
    assert contents(config.run) == contents(longer[0])


def test_asked_to_stop_in_training_it_saves_and_goes_on(whole, world, tmp_path):
    config = configuration(
        tmp_path / "run", world, dpo=replace(configuration(tmp_path, world).dpo, log_every=1)
    )
    batch, calls = PairLoader.batch, iter(range(1, 1000))

    def stopping(self, *arguments):
        if next(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairLoader, "batch", stopping)
        with pytest.raises(Stopped, match="iteration 1"):
            drive(config)
    assert not (config.run / "iteration-1" / "policy").exists()
    drive(config)
    assert contents(config.run) == contents(whole[0])


@pytest.fixture(scope="module")
def judges(tmp_path_factory) -> list[Path]:
    """Two music towers of random weights."""
    config = Clamp2Config(
        hidden_size=64, music_layers=1, intermediate_size=64, patch_length=16, decoder_layers=1
    )
    tensors = CLAMP2.official_tensors(config)
    folders = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        params = jax.tree.map(
            lambda shape, rng=rng: rng.normal(0, 0.3, shape).astype(np.float32),
            tree_shapes(tensors),
            is_leaf=lambda node: isinstance(node, tuple),
        )
        folder = tmp_path_factory.mktemp("judges") / f"judge-{seed}"
        stored = StoredCheckpoint(config, unstack(tensors, params), folder, layout=CLAMP2)
        write_directory(folder, stored)
        folders.append(folder)
    return folders


def command(config: ClampDPOConfig) -> list[str]:
    """The command line of a configuration, as far as these tests set it."""
    dpo, optimizer = config.dpo, config.dpo.optimizer
    settings = {
        "run": config.run, "checkpoint": config.checkpoint, "clamp2": config.clamp2,
        "ground-truth": config.ground_truth[0], "iterations": config.iterations,
        "samples": config.samples, "evaluation-samples": config.evaluation_samples,
        "plagiarism": config.plagiarism, "dpo.model.unroll": dpo.model.unroll,
        **{f"sampling.{name.replace('_', '-')}": value for name, value in asdict(config.sampling).items()},
        "dpo.pairs": dpo.pairs, "dpo.steps": dpo.steps,
        "dpo.optimizer.learning-rate": optimizer.learning_rate,
    }  # fmt: skip
    named = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "train.clamp_dpo", "mini", *named]


def test_the_command_killed_and_run_again_and_its_table(whole, world, judges, tmp_path):
    config = configuration(tmp_path / "run", world, clamp2=str(judges[0]), evaluation_samples=10)
    partial = config.run / "evaluation" / "0" / PARTIAL_FOLDER
    with subprocess.Popen(
        command(config), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    ) as started:
        while started.poll() is None and not list(partial.glob("*.json")):
            time.sleep(0.01)
        started.kill()
    assert not (config.run / "report.json").exists()
    again = subprocess.run(command(config), cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    # Samples do not depend on the judge, so those of the other run tell whether the kill changed any.
    found, expected = config.run / "iteration-1" / SAMPLES_FILE, whole[0] / "evaluation/0" / SAMPLES_FILE
    assert found.read_bytes() == expected.read_bytes()
    own = {sample.seed for sample in read_samples(partial.parent / SAMPLES_FILE)}
    assert not own & {sample.seed for sample in read_samples(found)}

    rows = table2.run(table2.Table2(config.run, second_judge=str(judges[1])))
    assert [row.system for row in rows] == ["ground truth", "K = 0", "K = 1"]
    report = json.loads((config.run / "report.json").read_text())
    for row, evaluated in zip(rows[1:], report["evaluation"], strict=True):
        assert row.score == pytest.approx(evaluated["overall"]["score"])
        assert row.finished == 1.0
        assert row.bar_alignment_error == 0.0
        assert row.second_score is not None
        assert row.second_score != pytest.approx(row.score)
        assert set(row.labels) == {"composer"}  # the only label that differs between the prompts
        assert set(row.prompts) == {"Baroque; A; Solo", "Baroque; B; Solo"}
    written = json.loads((config.run / "table2" / "table2.json").read_text())
    assert [row["score"] for row in written["rows"]] == [row.score for row in rows]
    assert "| K = 1 |" in (config.run / "table2" / "table2.md").read_text()
    assert "</svg>" in (config.run / "table2" / "table2.svg").read_text()
