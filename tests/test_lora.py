"""Low-rank adapters: the adapted model, its merged form, training runs of them and their files."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from notagen_jax import checkpoints, cli, lora, losses
from notagen_jax.checkpoints.adapters import ADAPTER_FILE, weights_digest
from notagen_jax.errors import NotaGenError
from notagen_jax.lora import LoraConfig
from notagen_jax.model import init_params
from tests.test_train_data import corpus
from tests.test_train_step import TINY, packed_batch, relative_error
from tests.train_runs import configuration
from train import loop
from train.adapting import adapters_and_base, check_kind
from train.config import DataConfig, OptimizerConfig
from train.data import Loader, held_out_batches
from train.likelihood import likelihood_loss

LORA = LoraConfig(rank=4, alpha=8.0)
BATCH = packed_batch(2)


@pytest.fixture(scope="module")
def params():
    return jax.device_get(jax.jit(init_params, static_argnums=0)(TINY, jax.random.key(0)))


def notagen(arguments: list[str]) -> int:
    """Exit status of the command line."""
    with pytest.raises(SystemExit) as done:
        cli.main(arguments)
    return done.value.code or 0


def some_adapters(settings: LoraConfig = LORA):
    """Adapters that do change the model."""
    fresh = lora.init_adapters(TINY, settings, jax.random.key(1))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), fresh)


@jax.jit
def adapted_nll(adapters, params):
    return losses.nll(TINY, params, BATCH["patches"], BATCH["segments"], None, lora.scaled(adapters, LORA))


@jax.jit
def merged_nll(adapters, params):
    return losses.nll(TINY, lora.merge(params, adapters, LORA), BATCH["patches"], BATCH["segments"])


def test_adapters_equal_the_merged_model_and_its_gradient(params):
    adapters = some_adapters()
    found, gradient = jax.value_and_grad(adapted_nll)(adapters, params)
    expected, expected_gradient = jax.value_and_grad(merged_nll)(adapters, params)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    assert relative_error(gradient, expected_gradient) < 1e-5
    # They do change the model, and fresh ones do not.
    plain = merged_nll(jax.tree.map(jnp.zeros_like, adapters), params)
    assert abs(float(found) - float(plain)) > 1e-3
    assert float(adapted_nll(lora.init_adapters(TINY, LORA, jax.random.key(2)), params)) == float(plain)


def test_merging_adds_the_scaled_product_to_the_chosen_kernels_alone(params):
    settings = LoraConfig(rank=4, alpha=8.0, projections=("qkv", "mlp_out"))
    adapters = jax.device_get(some_adapters(settings))
    merged = lora.merge(params, adapters, settings)
    changed = []
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(merged), jax.tree.leaves(params), strict=True
    ):
        if not np.array_equal(a, b):
            changed.append(jax.tree_util.keystr(path, simple=True, separator="/"))
    kernels = [
        f"{decoder}/stack/blocks/{name}/kernel"
        for decoder in ("char_decoder", "patch_decoder")
        for name in ("mlp_out", "qkv")
    ]
    assert sorted(changed) == sorted(kernels)
    blocks = (tree["patch_decoder"]["stack"]["blocks"]["qkv"] for tree in (merged, params, adapters))
    after, before, pair = blocks
    for layer in range(TINY.patch_layers):
        product = 8.0 / 4 * pair["down"][layer] @ pair["up"][layer]
        np.testing.assert_allclose(after["kernel"][layer] - before["kernel"][layer], product, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": -1}, "lora.rank must be"),
        ({"rank": 4, "alpha": 0.0}, "lora.alpha must be"),
        ({"rank": 4, "projections": ("qkv", "wte")}, "lora.projections: wte"),
    ],
)
def test_settings_that_make_no_adapters_are_refused(settings, message):
    with pytest.raises(NotaGenError, match=message):
        LoraConfig(**settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory, params):
    """A finished training run of adapters on a saved base, its folder beside the base's."""
    folder = tmp_path_factory.mktemp("lora")
    checkpoints.save(folder / "base", TINY, params)
    settings = LoraConfig(rank=2, alpha=4.0)
    config = configuration(
        folder / "run",
        data=DataConfig(rows=1, length=32),
        lora=settings,
        optimizer=OptimizerConfig(1e-2, warmup_steps=0),
        init=str(folder / "base"),
        evaluate_every=2,
        steps=4,
    )
    base = checkpoints.load(config.init)
    first, frozen = adapters_and_base(config.run, settings, base, seed=0)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(frozen)} == {"bfloat16"}
    stage = loop.Stage(
        config=TINY,
        params=first,
        frozen=frozen,
        loss=likelihood_loss(TINY, settings),
        train=Loader([corpus(6)], config.data, config.seed),
        held_out={"made-up": held_out_batches(corpus(2), config.data, 4)},
    )
    losses_after = loop.run(stage, config)
    records = [json.loads(line) for line in (config.run / "log.jsonl").read_text().splitlines()]
    held_out = [record["held_out"] for record in records if record["kind"] == "held_out"]
    assert held_out[-1] == losses_after["held_out"] < held_out[0]
    return config.run


def test_a_run_of_adapters_opens_as_the_merged_model(run, params):
    loaded = checkpoints.load(run)
    adapters = checkpoints.load_adapters(run)
    assert relative_error(loaded.params, lora.merge(params, adapters.tree, LoraConfig(2, 4.0))) == 0
    assert weights_digest(loaded.params) != weights_digest(params)
    assert loaded.source.name == "4"
    assert checkpoints.load(run, step="best").source.name == "4"


def test_adapters_alone_are_small_and_merge_by_convert(run, tmp_path):
    alone, merged, again = tmp_path / "alone", tmp_path / "merged", tmp_path / "again"
    assert notagen(["convert", str(run), str(alone), "--adapters"]) == 0
    assert {path.name for path in alone.iterdir()} == {ADAPTER_FILE, "adapters.safetensors"}
    assert notagen(["convert", str(alone), str(merged)]) == 0
    assert notagen(["convert", str(run), str(again)]) == 0
    expected = checkpoints.load(run).params
    for folder in (alone, merged, again):
        assert relative_error(checkpoints.load(folder).params, expected) == 0
    size = (alone / "adapters.safetensors").stat().st_size
    assert size < 0.3 * (merged / "model.safetensors").stat().st_size


def test_adapters_merge_with_their_own_base_only(run, tmp_path, capsys):
    base, other = run.parent / "base", tmp_path / "other"
    checkpoints.save(other, TINY, init_params(TINY, jax.random.key(7)))
    assert notagen(["convert", str(run), str(tmp_path / "out"), "--base", str(other)]) == 1
    assert "give the checkpoint that they were trained on" in capsys.readouterr().err
    with pytest.raises(NotaGenError, match="holds a whole model, so it has no base"):
        checkpoints.load(other, base=base)
    moved = base.rename(run.parent / "moved")
    try:
        with pytest.raises(NotaGenError, match="the model that these adapters adapt"):
            checkpoints.load(run)
        assert checkpoints.load(run, base=moved).config.sizes == TINY.sizes
    finally:
        moved.rename(base)


def test_damaged_adapters_are_named(run, tmp_path):
    alone = tmp_path / "alone"
    notagen(["convert", str(run), str(alone), "--adapters"])
    whole = (alone / "adapters.safetensors").read_bytes()
    (alone / "adapters.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NotaGenError, match=r"adapters\.safetensors: cannot read the adapters"):
        checkpoints.load(alone)
    (alone / "adapters.safetensors").write_bytes(whole)
    described = json.loads((alone / ADAPTER_FILE).read_text())
    described["lora"]["rank"] = 3
    (alone / ADAPTER_FILE).write_text(json.dumps(described))
    with pytest.raises(NotaGenError, match=r"not the adapters that adapter\.json describes"):
        checkpoints.load(alone)
    (alone / ADAPTER_FILE).write_text("{}")
    with pytest.raises(NotaGenError, match=r"adapter\.json: not a description of adapters"):
        checkpoints.load(alone)


def test_a_run_goes_on_with_the_same_adapters_only(run, params):
    base = checkpoints.load(run.parent / "base")
    with pytest.raises(NotaGenError, match="this run trains adapters"):
        check_kind(run, None)
    check_kind(run, LoraConfig(2, 4.0))
    with pytest.raises(NotaGenError, match="other lora settings"):
        adapters_and_base(run, LoraConfig(rank=3), base, seed=0)
