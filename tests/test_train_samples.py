"""Pieces sampled at an evaluation: their verdicts, their file, and the way out when a run is to stop."""

import json

import jax
import pytest

from notagen_jax.labels import Prompt
from notagen_jax.model import init_params
from notagen_jax.sampling import Sample
from tests.train_runs import MODEL, configuration
from train.config import DataConfig, SampleConfig
from train.samples import sampled_pieces, verdict

PROMPTS = [Prompt("Baroque", "A", "Keyboard"), Prompt("Romantic", "B", "Choral")]
HEAD = "%%score { 1 | 2 }\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:2 bass\n"


def sample(text: str) -> Sample:
    """A finished piece."""
    return Sample(text, True, "", 10, 1.0, seed=7)


@pytest.mark.parametrize(
    ("body", "parses", "aligned"),
    [
        ("[r:0/1][V:1]c8|[V:2]C8|\n[r:1/0][V:1]d8|\n", True, True),
        ("[r:0/1][V:1]c8|[V:2]C4|\n[r:1/0][V:1]d8|\n", True, False),
        ("[r:0/1][V:1]z8|[V:2]z8|\n", False, True),
        ("no bar at all\n", False, False),
    ],
)
def test_a_verdict_says_whether_a_piece_parses_and_aligns(body, parses, aligned):
    found = verdict(sample(HEAD + body))
    assert (found["parses"], found["aligned"]) == (parses, aligned)
    assert (found["fault"] is None) == (parses and aligned)
    assert (found["seed"], found["finished"], found["text"]) == (7, True, HEAD + body)


def test_samples_go_to_a_file_and_end_when_the_run_does(tmp_path):
    config = configuration(
        tmp_path, data=DataConfig(rows=1, length=64, prompts=True), samples=SampleConfig(count=4, patches=3)
    )
    samples = sampled_pieces(config, MODEL, PROMPTS)
    params = jax.jit(init_params, static_argnums=0)(MODEL, jax.random.key(0))
    figures = samples(5, params, {}, lambda: False)
    lines = [json.loads(line) for line in (tmp_path / "samples/5.jsonl").read_text().splitlines()]
    # In turn over the prompts, a seed each.
    assert [line["text"].split("\n")[1] for line in lines] == ["%A", "%A", "%B", "%B"]
    assert [line["seed"] for line in lines] == [0, 1, 2, 3]
    assert figures == {
        name: sum(line[name] for line in lines) / 4 for name in ("finished", "parses", "aligned")
    }
    assert samples(6, params, {}, lambda: True) == {}
    assert not (tmp_path / "samples/6.jsonl").exists()
    # The same seeds at every evaluation, so that pieces can be compared from one to the next.
    samples(7, params, {}, lambda: False)
    assert (tmp_path / "samples/7.jsonl").read_text() == (tmp_path / "samples/5.jsonl").read_text()
