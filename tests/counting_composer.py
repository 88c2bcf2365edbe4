"""A tiny model that counts the bars of one piece up and down, and draws what `~` stands for at random."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from notagen_jax.config import ModelConfig
from notagen_jax.losses import nll
from notagen_jax.model import init_params
from notagen_jax.patches import encode_piece


def train(config: ModelConfig, text: str, drawn: bytes, steps: int) -> Any:
    """Parameters that write `text` with stream headers, each `~` any of the characters `drawn`.

    The model sees windows of the piece that start at any bar, and other characters in the places of
    `~` at every step. So every seed gives another piece, and one that lost or repeated a bar between
    two windows would not count right.
    """
    piece = encode_piece(text)
    windows = [
        np.concatenate([piece.metadata, piece.body[start:]])[: config.patch_length]
        for start in piece.line_starts[:-1]
    ]
    windows = np.stack([np.pad(w, ((0, config.patch_length - len(w)), (0, 0))) for w in windows])
    schedule = optax.warmup_cosine_decay_schedule(0.0, 5e-3, 20, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    @jax.jit
    def run(key):
        def step(state, key):
            params, moments = state
            chosen = jax.random.choice(key, jnp.frombuffer(drawn, jnp.uint8), windows.shape)
            batch = jnp.where(windows == ord("~"), chosen, windows)
            gradient = jax.grad(functools.partial(nll, config))(params, batch)
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(params, updates), moments), None

        params = init_params(config, key)
        state, _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))
        return state[0]

    return run(jax.random.key(0))
