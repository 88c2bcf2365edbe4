"""A tiny policy for the tests of CLaMP-DPO: it writes whole, short pieces, whose notes it draws at random."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from notagen_jax.config import ModelConfig
from notagen_jax.labels import Prompt
from notagen_jax.losses import nll
from notagen_jax.model import init_params
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


def train() -> Any:
    """Parameters that write `text` with two bars of any notes, for either prompt; float32 numpy arrays."""
    pieces = [encode_training(text(prompt, "~~~~", "~~~~")) for prompt in PROMPTS]
    rows = np.stack([np.pad(p, ((0, CONFIG.patch_length - len(p)), (0, 0))) for p in pieces * 2])
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.warmup_cosine_decay_schedule(0.0, 5e-3, 20, STEPS))
    )

    @jax.jit
    def fit(key: jax.Array) -> Any:
        def step(state: Any, key: jax.Array) -> tuple[Any, None]:
            params, moments = state
            notes = jax.random.choice(key, jnp.frombuffer(NOTES, jnp.uint8), rows.shape)
            batch = jnp.where(rows == ord("~"), notes, rows)
            gradient = jax.grad(functools.partial(nll, CONFIG))(params, batch)
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(params, updates), moments), None

        params = init_params(CONFIG, key)
        state, _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, STEPS))
        return state[0]

    return jax.device_get(fit(jax.random.key(0)))


class NoteJudge:
    """Features by ear: how often each note sounds."""

    def music_features(self, texts: Any) -> np.ndarray:
        """float32 (n, 7)."""
        bodies = ["".join(line for line in t.split("\n") if line.startswith("[V:")) for t in texts]
        return np.array([[0.1 + body.count(chr(note)) for note in NOTES] for body in bodies], np.float32)
