"""Whether a device computes what it should: `python -m eval.gpu_checks --json FILE`.

What the test suite cannot see on a CPU: cuDNN's flash attention against plain attention in bfloat16, both
measured by their distance from float32; float32 arithmetic against the CPU's; and, on the packaged model,
that the cached sampler takes the likeliest character of a full forward pass.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from eval.train_batches import batches
from notagen_jax import checkpoints
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.config import PRESETS, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.losses import nll
from notagen_jax.model import NotaGen, init_params
from notagen_jax.patches import encode_continuation
from notagen_jax.sampling import Sampler, SamplingSettings

FLASH_SLACK = 1.5
"""Flash attention may be this many times as far from float32 as plain bfloat16 attention is."""
FLOAT32_TOLERANCE = 1e-5
"""Largest distance of float32 on an accelerator from float32 on the CPU, relative."""
SAMPLED_PATCHES = 64
LOGIT_SLACK = 1e-3
"""How far below the largest logit that of a drawn character may lie, when two are almost equal."""


@dataclasses.dataclass(frozen=True)
class GpuChecks:
    """Check this machine's accelerator."""

    model: Literal["mini", "small", "medium", "large"] = "large"
    """Sizes of the model that attention and arithmetic are checked on; its depth is cut to 4 and 2 blocks."""
    length: int = 512
    """Patches of a row."""
    json: Path | None = None
    """Write the findings to this file too."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    passed: bool | None
    """None where it could not run on this machine."""
    detail: str


def distance(found: Any, expected: Any) -> float:
    """Euclidean distance of two trees, relative to the length of the second."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    squares = [
        (np.square(np.float64(a) - np.float64(b)).sum(), np.square(np.float64(b)).sum()) for a, b in pairs
    ]
    apart, whole = (sum(values) for values in zip(*squares, strict=True))
    return float(np.sqrt(apart / whole))


def music(options: GpuChecks, packed: bool) -> dict[str, np.ndarray]:
    """Two rows of real music; `packed` divides each into three pieces, with padding behind."""
    (batch,) = batches((), 1, 2, options.length)
    if packed:
        third = options.length // 3
        batch["segments"][:, third : 2 * third] = 2
        batch["segments"][:, 2 * third :] = 3
        batch["segments"][1, -third // 2 :] = 0
        batch["patches"][1, -third // 2 :] = 0
    return batch


def shallow(options: GpuChecks) -> ModelConfig:
    """The model at its full width and a few blocks, without dropout."""
    preset = PRESETS[options.model]
    return preset.replace(
        patch_layers=min(preset.patch_layers, 4),
        char_layers=min(preset.char_layers, 2),
        dropout=0.0,
        attention_dropout=0.0,
    )


def loss_and_gradient(
    config: ModelConfig, params: Any, batch: dict[str, np.ndarray], device: jax.Device
) -> tuple[Any, Any]:
    """Loss and gradients of a batch on a device, as numpy arrays."""
    compute = jax.jit(jax.value_and_grad(functools.partial(nll, config)))
    return jax.device_get(compute(*jax.device_put((params, batch["patches"], batch["segments"]), device)))


def check_flash(options: GpuChecks, packed: bool) -> Check:
    """cuDNN attention against plain attention in bfloat16, by their distances from float32."""
    name = f"flash attention, {'packed pieces' if packed else 'one piece a row'}"
    if jax.default_backend() != "gpu":
        return Check(name, None, "needs an NVIDIA GPU")
    config = shallow(options)
    params = jax.device_get(jax.jit(init_params, static_argnums=0)(config, jax.random.key(0)))
    batch, device = music(options, packed), jax.devices()[0]
    expected = loss_and_gradient(config, params, batch, device)
    plain, flash = (
        loss_and_gradient(config.replace(dtype="bfloat16", attention=attention), params, batch, device)
        for attention in ("xla", "cudnn")
    )
    apart, flash_apart = distance(plain[1], expected[1]), distance(flash[1], expected[1])
    passed = flash_apart <= FLASH_SLACK * apart and abs(flash[0] / expected[0] - 1) < 1e-2
    return Check(
        name,
        bool(passed),
        f"gradients {flash_apart:.2e} from float32, plain attention {apart:.2e}; "
        f"loss {float(flash[0]):.5f}, float32 {float(expected[0]):.5f}",
    )


def check_float32(options: GpuChecks) -> Check:
    """float32 loss and gradients against the CPU's."""
    name = "float32 is float32"
    if jax.default_backend() == "cpu":
        return Check(name, None, "needs an accelerator beside the CPU")
    try:
        cpu_device = jax.devices("cpu")[0]
    except RuntimeError:
        return Check(name, None, "JAX was told to see no CPU; unset JAX_PLATFORMS")
    config = shallow(options)
    params = jax.device_get(jax.jit(init_params, static_argnums=0)(config, jax.random.key(0)))
    batch = music(dataclasses.replace(options, length=min(options.length, 64)), packed=True)
    ours, cpu = (
        loss_and_gradient(config, params, batch, device) for device in (jax.devices()[0], cpu_device)
    )
    apart = distance(ours[1], cpu[1])
    return Check(name, apart <= FLOAT32_TOLERANCE, f"gradients {apart:.2e} from the CPU's")


def check_sampler(batch: int) -> Check:
    """Greedy pieces of the packaged model: each character is the likeliest of a full forward pass."""
    checkpoint = checkpoints.load()
    config, params = checkpoint.config, checkpoint.params
    labels = checkpoint.labels or ()
    prompts = [labels[number % len(labels)].lines() for number in range(batch)]
    settings = SamplingSettings(top_k=1, temperature=1.0, max_patches=SAMPLED_PATCHES)
    samples = Sampler(config, params, batch).generate(prompts, range(batch), settings)
    logits_of = jax.jit(lambda params, patches: NotaGen(config).apply({"params": params}, patches))
    drawn, behind = 0, 0.0
    for prompt, sample in zip(prompts, samples, strict=True):
        known = len(encode_continuation(prompt).patches)
        text = encode_continuation(sample.text)
        patches = text.patches[: known + SAMPLED_PATCHES]
        padded = np.zeros((1, 2 * SAMPLED_PATCHES, 16), np.uint8)
        padded[0, : len(patches)] = patches
        logits = np.asarray(logits_of(params, jnp.asarray(padded)))[0, known - 1 : len(patches) - 1]
        targets = patches[known:]
        chosen = np.take_along_axis(logits, targets[..., None].astype(int), -1)[..., 0]
        # The forced beginning of the first bar is not drawn.
        first = int(np.argmax((targets[:, :3] == np.frombuffer(b"[r:", np.uint8)).all(-1)))
        counted = targets != 0
        counted[first, 3:5] = False
        behind = max(behind, float((logits.max(-1) - chosen)[counted].max()))
        drawn += int(counted.sum())
    return Check(
        f"cached sampling, batch {batch}",
        behind <= LOGIT_SLACK,
        f"{drawn} characters, none more than {behind:.1e} below the likeliest of a full forward pass",
    )


def run(options: GpuChecks) -> list[Check]:
    """Make all checks, print and return them."""
    enable_compilation_cache()
    makers: list[Callable[[], Check]] = [
        functools.partial(check_flash, options, packed=False),
        functools.partial(check_flash, options, packed=True),
        functools.partial(check_float32, options),
        functools.partial(check_sampler, 1),
        functools.partial(check_sampler, 8),
    ]
    found = []
    for make in makers:
        found.append(make())
        print({True: "ok", False: "FAILED", None: "not run"}[found[-1].passed], end="  ")
        print(f"{found[-1].name}: {found[-1].detail}", flush=True)
    if options.json is not None:
        write_atomic(
            options.json, json.dumps([dataclasses.asdict(check) for check in found], indent=1) + "\n"
        )
    return found


def main() -> None:
    """Entry point: exit 1 when a check fails, or with one message on a mendable error."""
    try:
        found = run(tyro.cli(GpuChecks, prog="python -m eval.gpu_checks", description=__doc__))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(any(check.passed is False for check in found))


if __name__ == "__main__":
    main()
