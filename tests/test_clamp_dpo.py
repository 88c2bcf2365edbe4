"""The driver at tiny size: it does what it promises, and killed anywhere it ends with the same files."""

import json
import pkgutil
import shutil
from pathlib import Path

import numpy as np
import pytest

from notagen_jax import checkpoints
from notagen_jax.patches import strip_stream_headers
from tests.tiny_composer import CONFIG, PROMPTS, NoteJudge, text, train
from train.clamp_dpo.config import ClampDPOConfig, SamplingConfig
from train.clamp_dpo.driver import Driver
from train.clamp_dpo.samples import read_samples
from train.clamp_dpo.selection import read_candidates
from train.config import OptimizerConfig
from train.dpo.config import DPOConfig
from train.dpo.preferences import read_preferences

LIKED = ("CDEC", "CEDC")
"""What the ground truth of the first prompt sounds like; the second one's uses other notes."""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint of the tiny composer and a folder of ground truth for its two prompts."""
    folder = tmp_path_factory.mktemp("world")
    checkpoints.save(folder / "checkpoint", CONFIG, train(), labels=PROMPTS)
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
            checkpoint_minutes=1e-6,
        ),
        run=run,
        checkpoint=str(world[0]),
        ground_truth=(str(world[1]),),
        iterations=1,
        samples=20,
        evaluation_samples=10,
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
    """A run that nothing interrupted, and its report."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, drive(configuration(run, world))


def test_a_run_leaves_what_it_promises(whole, world):
    run, report = whole
    folder = run / "iteration-1"
    samples = read_samples(folder / "samples.jsonl")
    assert len(samples) == 40
    assert all(sample.text.startswith("%Baroque\n%") for sample in samples)
    candidates = read_candidates(folder / "candidates.jsonl")
    assert [c.name for c in candidates] == [sample.name for sample in samples]
    preferences = read_preferences(folder / "preferences.jsonl")
    by_name = {c.name: c for c in candidates}
    for preference in preferences:
        assert by_name[preference.name].verdict == preference.verdict
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
    assert after.config == before.config
    assert not np.array_equal(after.params["char_decoder"]["wte"], before.params["char_decoder"]["wte"])


def test_the_score_rises(whole):
    scores = [row["overall"]["score"] for row in whole[1]["evaluation"]]
    assert scores[1] > scores[0] + 0.02


def test_a_finished_run_is_skipped_and_can_be_given_more(whole, world, tmp_path):
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

    longer = drive(configuration(run, world, iterations=2))
    assert [row["K"] for row in longer["evaluation"]] == [0, 1, 2]
    assert {name: content for name, content in contents(run).items() if name in before} | {
        name: before[name] for name in ("report.json", "report.md")
    } == before
    first, second = (read_samples(run / f"iteration-{k}" / "samples.jsonl") for k in (1, 2))
    seeds = [{sample.seed for sample in samples} for samples in (first, second)]
    evaluation = read_samples(run / "evaluation" / "1" / "samples.jsonl")
    assert not seeds[0] & seeds[1]
    assert not (seeds[0] | seeds[1]) & {sample.seed for sample in evaluation}


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
    ("samples of the evaluation", "train.clamp_dpo.samples.write_atomic", 7),
    ("between samples and features", "train.clamp_dpo.driver.features_of", 2),
    ("metrics of the evaluation", "train.clamp_dpo.driver.evaluation.by_style", 1),
    ("samples of the selection", "train.clamp_dpo.samples.write_atomic", 33),
    ("candidates", "train.clamp_dpo.driver.selection.write_candidates", 1),
    ("preferences", "train.clamp_dpo.driver.write_preferences", 1),
    ("reference", "train.dpo.stage.reference_log_probs", 1),
    ("DPO", "train.dpo.pairs.PairLoader.batch", 8),
    ("policy", "train.clamp_dpo.driver.checkpoints.save", 1),
]


def test_killed_in_every_stage_a_run_ends_with_the_same_files(whole, world, tmp_path):
    config = configuration(tmp_path / "run", world)
    for stage, place, call in STAGES:
        drive_until(config, place, call)
        assert not (config.run / "iteration-1" / "policy").exists(), stage
    drive(config)
    assert contents(config.run) == contents(whole[0])
