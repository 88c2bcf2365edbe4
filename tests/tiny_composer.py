"""A tiny policy for the tests of CLaMP-DPO: it writes whole, short pieces, whose notes it draws at random."""

import functools
from typing import Any

import jax
import numpy as np
import optax

from notagen_jax.checkpoints.layout import tree_shapes
from notagen_jax.checkpoints.names import NOTAGEN
from notagen_jax.config import ModelConfig
from notagen_jax.labels import Prompt
from notagen_jax.losses import nll
from notagen_jax.patches import encode_training

CONFIG = ModelConfig(
    hidden_size=64, patch_layers=1, char_layers=1, patch_length=16, dropout=0.0, attention_dropout=0.0
)
PROMPTS = (Prompt("Baroque", "A", "Solo"), Prompt("Baroque", "B", "Solo"))
NOTES = b"CDEFGAB"
STEPS = 200


def text(prompt: Prompt, *bars: str) -> str:
    """A piece of one voice as the model writes it, one string of four notes a bar."""
    body = "".join(f"[r:{n}/{len(bars) - 1 - n}][V:1]{bar}|\n" for n, bar in enumerate(bars))
    return f"{prompt.lines()}%end\nL:1/8\nK:C\nV:1 treble\n{body}"


def random_params(config: ModelConfig, seed: int = 0) -> Any:
    """Parameters about as large as fresh ones, float32 numpy arrays, without compiling their drawing."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, shape: tuple[int, ...]) -> np.ndarray:
        center = 1.0 if path[-1].key == "scale" else 0.0
        return rng.normal(center, 0.02, shape).astype(np.float32)

    shapes = tree_shapes(NOTAGEN.official_tensors(config))
    return jax.tree_util.tree_map_with_path(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))


def train() -> Any:
    """Parameters that write `text` with two bars of any notes, for either prompt; float32 numpy arrays."""
    pieces = [encode_training(text(prompt, "~~~~", "~~~~")) for prompt in PROMPTS]
    rows = np.stack([np.pad(p, ((0, CONFIG.patch_length - len(p)), (0, 0))) for p in pieces * 2])
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 5e-3, 20, STEPS))

    @jax.jit
    def step(params: Any, moments: Any, batch: np.ndarray) -> tuple[Any, Any]:
        gradient = jax.grad(functools.partial(nll, CONFIG))(params, batch)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), moments

    params = random_params(CONFIG)
    moments = optimizer.init(params)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        notes = rng.choice(np.frombuffer(NOTES, np.uint8), rows.shape)
        params, moments = step(params, moments, np.where(rows == ord("~"), notes, rows))
    return jax.device_get(params)


class NoteJudge:
    """Features by ear: how often each note sounds."""

    def music_features(self, texts: Any) -> np.ndarray:
        """float32 (n, 7)."""
        bodies = ["".join(line for line in t.split("\n") if line.startswith("[V:")) for t in texts]
        return np.array([[0.1 + body.count(chr(note)) for note in NOTES] for body in bodies], np.float32)
