"""Log-probabilities of the pieces under the frozen reference: computed once, kept in a file."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic
from notagen_jax.losses import log_probability
from train.dpo.pairs import Encoded, bucket, pad


def reference_log_probs(
    path: Path,
    config: ModelConfig,
    params: Any,
    pieces: Sequence[Encoded],
    rows: int,
    say: Callable[[str], object],
) -> np.ndarray:
    """Log-probability (nats) of every piece under the reference, without dropout, float32 (n,).

    rows: pieces that one forward pass takes; pieces of like length share one

    Read from the file `path` when it holds those of these parameters and pieces, else computed and
    written there. Raises `NotaGenError` on a file that cannot be read or a log-probability that is
    not finite.
    """
    digest = _digest(config, params, pieces)
    known = _read(path, digest)
    if known is not None:
        return known
    lengths = [bucket(len(patches), config.patch_length) for _, patches in pieces]
    order = sorted(range(len(pieces)), key=lambda index: lengths[index])
    log_probs = np.zeros(len(pieces), np.float32)
    device_params = jax.device_put(params)
    done = 0
    while done < len(order):
        length = lengths[order[done]]
        group = [index for index in order[done : done + rows] if lengths[index] == length]
        patches = pad([pieces[index].patches for index in group], length)
        # The last batch of a length is filled up, so that each length has one program.
        full = np.concatenate([patches, np.zeros((rows - len(group), *patches.shape[1:]), np.uint8)])
        log_probs[group] = np.asarray(_log_probability(config, device_params, full))[: len(group)]
        done += len(group)
        say(f"reference log-probabilities of {done} of {len(order)} pieces")
    for (preference, _), value in zip(pieces, log_probs, strict=True):
        if not np.isfinite(value):
            raise NotaGenError(
                f"the reference gives {preference.name} the log-probability {value}; is it a good checkpoint?"
            )
    table = [
        {"prompt": p.prompt, "name": p.name, "verdict": p.verdict, "patches": len(patches), "log_prob": value}
        for (p, patches), value in zip(pieces, log_probs.tolist(), strict=True)
    ]
    if jax.process_index() == 0:
        write_atomic(path, json.dumps({"digest": digest, "pieces": table}, indent=1) + "\n")
    return log_probs


_log_probability = jax.jit(log_probability, static_argnums=0)


def _digest(config: ModelConfig, params: Any, pieces: Sequence[Encoded]) -> str:
    """Digest of all that the log-probabilities depend on."""
    digest = hashlib.sha256(repr((config.dtype, config.attention)).encode())
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    for preference, patches in pieces:
        digest.update(repr((preference.prompt, preference.name, len(patches))).encode())
        digest.update(patches.tobytes())
    return digest.hexdigest()


def _read(path: Path, digest: str) -> np.ndarray | None:
    if not path.is_file():
        return None
    remedy = "delete it, and the same command makes it again"
    try:
        stored = json.loads(read_text(path, remedy))
        if stored["digest"] != digest:
            return None
        return np.array([piece["log_prob"] for piece in stored["pieces"]], np.float32)
    except (ValueError, KeyError, TypeError) as error:
        raise NotaGenError(f"{path}: not a file of log-probabilities ({error}); {remedy}") from error
