"""Official `.pth` files: read safely in every form they come in, refused clearly, written back."""

import io
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from notagen_jax import checkpoints
from notagen_jax.checkpoints.names import TIED, official_tensors
from notagen_jax.cli import convert
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError

torch = pytest.importorskip("torch")

CONFIG = ModelConfig(64, 2, 1, 24)


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    """A state dict with the official names, made without this package's own writer."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        tensor.name: torch.randn(tensor.shape, generator=generator) for tensor in official_tensors(CONFIG)
    }
    tensors[TIED] = tensors["char_level_decoder.base.transformer.wte.weight"]
    return tensors


@pytest.fixture
def weights(tmp_path: Path, state: dict[str, Any]) -> Path:
    """A file as the official training code saves it."""
    moments = {"step": torch.tensor(9.0), "exp_avg": torch.ones(3)}
    content = {
        "model": state,
        "optimizer": {"state": {0: moments}, "param_groups": [{"lr": 1e-5, "betas": (0.9, 0.999)}]},
        "lr_sched": {"base_lrs": [1e-5], "last_epoch": 9, "lr_lambdas": [{}]},
        "epoch": 3,
        "best_epoch": 2,
        "min_eval_loss": 0.31,
    }
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def assert_holds(params: dict[str, Any], state: dict[str, Any]) -> None:
    patch, char = params["patch_decoder"], params["char_decoder"]
    base, transformer = "patch_level_decoder.base", "char_level_decoder.base.transformer"
    table = state["patch_level_decoder.patch_embedding.weight"].float().numpy().T
    np.testing.assert_array_equal(patch["table"], table)
    np.testing.assert_array_equal(patch["wpe"], state[f"{base}.wpe.weight"].float().numpy())
    for layer in range(2):
        np.testing.assert_array_equal(
            patch["stack"]["blocks"]["mlp_in"]["kernel"][layer],
            state[f"{base}.h.{layer}.mlp.c_fc.weight"].float().numpy(),
        )
    np.testing.assert_array_equal(
        char["stack"]["blocks"]["attention_out"]["bias"][0],
        state[f"{transformer}.h.0.attn.c_proj.bias"].float().numpy(),
    )
    np.testing.assert_array_equal(
        char["stack"]["ln_f"]["scale"], state[f"{transformer}.ln_f.weight"].float().numpy()
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def test_an_official_file_loads(weights: Path, state: dict[str, Any]):
    loaded = checkpoints.load(weights)
    assert loaded.config == CONFIG
    assert loaded.labels is None
    assert_holds(loaded.params, state)


@pytest.mark.parametrize("form", ["bare", "data parallel", "compiled", "legacy", "older buffers"])
def test_other_forms_load(tmp_path: Path, state: dict[str, Any], form: str):
    path = tmp_path / "w.pt"
    if form == "bare":
        torch.save(state, path)
    elif form == "data parallel":
        torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    elif form == "compiled":
        torch.save({"model": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}}, path)
    elif form == "legacy":
        torch.save({"model": state, "epoch": 1}, path, _use_new_zipfile_serialization=False)
    else:
        mask = torch.ones(1, 1, 24, 24, dtype=torch.uint8)
        torch.save({"model": {**state, "patch_level_decoder.base.h.0.attn.bias": mask}}, path)
    assert_holds(checkpoints.load(path).params, state)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_load_as_float32(tmp_path: Path, state: dict[str, Any], dtype: str):
    cast = {name: tensor.to(getattr(torch, dtype)) for name, tensor in state.items()}
    torch.save({"model": cast}, tmp_path / "w.pth")
    assert_holds(checkpoints.load(tmp_path / "w.pth").params, cast)


def test_there_and_back_is_the_same_state_dict(
    tmp_path: Path, weights: Path, state: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    assert convert.run(convert.Convert(weights, tmp_path / "model")) == 0
    assert convert.run(convert.Convert(tmp_path / "model", tmp_path / "back.pth")) == 0
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert list(back) == list(state)
    unused = "patch_level_decoder.base.wte.weight"
    for name, tensor in state.items():
        assert back[name].dtype == torch.float32
        assert torch.equal(back[name], tensor) or name == unused
    assert f"{CONFIG.parameters:,} parameters" in capsys.readouterr().out
    assert_holds(checkpoints.load(tmp_path / "back.pth").params, state)
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["back.pth", "model", "weights.pth"]


def test_it_loads_into_the_official_modules(tmp_path: Path, weights: Path):
    pytest.importorskip("transformers")
    from eval.torch_reference import TorchNotaGen

    convert.run(convert.Convert(weights, tmp_path / "model", dtype="bfloat16"))
    convert.run(convert.Convert(tmp_path / "model", tmp_path / "back.pth"))
    convert.run(convert.Convert(tmp_path / "model", tmp_path / "half.pth", dtype="bfloat16"))
    for name in ("back.pth", "half.pth"):
        content = torch.load(tmp_path / name, weights_only=True)
        TorchNotaGen(CONFIG).load_state_dict(content["model"], strict=True)
    assert (tmp_path / "half.pth").stat().st_size < 0.6 * (tmp_path / "back.pth").stat().st_size
    # The other way: PyTorch reads the converted directory's file.
    from safetensors.torch import load_file

    TorchNotaGen(CONFIG).load_state_dict(load_file(tmp_path / "model" / "model.safetensors"), strict=True)


def test_an_existing_file_needs_force(tmp_path: Path, weights: Path):
    convert.run(convert.Convert(weights, tmp_path / "model"))
    before = weights.read_bytes()
    with pytest.raises(NotaGenError, match="exists; choose another name, or --force"):
        convert.run(convert.Convert(tmp_path / "model", weights))
    assert weights.read_bytes() == before
    convert.run(convert.Convert(tmp_path / "model", weights, force=True))
    assert weights.read_bytes() != before


class Hostile:
    """Unpickling this with Python's own unpickler would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "executed")


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_a_hostile_pickle_never_executes(tmp_path: Path, state: dict[str, Any], form: str):
    trace = tmp_path / "trace"
    content = {"model": state, "epoch": Hostile(trace)}
    path = tmp_path / "hostile.pth"
    if form == "plain pickle":
        path.write_bytes(pickle.dumps({"model": Hostile(trace)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(NotaGenError, match=r"hostile\.pth: (holds a Python object|a damaged file)") as caught:
        checkpoints.load(path)
    assert "weights_only=False" not in str(caught.value)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Hostile(trace)))
    assert trace.exists(), "the pickle is armed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; download it again"),
        (b"\n<!DOCTYPE html><html>404</html>", "a web page, not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"%!PS-Adobe", "not a PyTorch checkpoint"),
        (b"\x80\x04 nothing of use", "damaged file or not a PyTorch checkpoint"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(NotaGenError, match=rf"w\.pth: .*{message}"):
        checkpoints.load(path)


def test_a_broken_download_is_told(weights: Path):
    data = weights.read_bytes()
    for kept in (40, 5000, len(data) // 2, len(data) - 1):
        weights.write_bytes(data[:kept])
        with pytest.raises(NotaGenError, match=r"weights\.pth: the file breaks off"):
            checkpoints.load(weights)


def test_a_changed_byte_is_told(weights: Path):
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(NotaGenError, match="damaged file"):
        checkpoints.load(weights)


def test_damage_anywhere_is_one_clear_error(weights: Path):
    data = weights.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        pickled = next(record for record in archive.infolist() if record.filename.endswith("data.pkl"))
    rng = np.random.default_rng(0)
    places = [*range(0, 60, 7), *rng.integers(pickled.header_offset, pickled.header_offset + 3000, 25)]
    places += list(rng.integers(len(data) - 4000, len(data), 25))
    told = []
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 0xFF
        weights.write_bytes(changed)
        try:
            checkpoints.load(weights)  # a byte that nothing reads may change
        except NotaGenError as error:
            told.append(str(error))
    assert len(told) > len(places) / 2
    assert all("weights.pth" in message for message in told)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_a_changed_compression_method_is_told(weights: Path, method: int):
    data = bytearray(weights.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = data.index(signature) + offset
        data[place : place + 2] = method.to_bytes(2, "little")
    weights.write_bytes(data)
    with pytest.raises(NotaGenError, match=r"weights\.pth: its record .*data\.pkl' is compressed"):
        checkpoints.load(weights)


def test_a_file_that_was_packed_again_is_told(tmp_path: Path, weights: Path):
    """Its mapped tensors would be the compressed bytes."""
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(weights) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
    with pytest.raises(NotaGenError, match=r"packed\.pth: its record .* is compressed.*download it again"):
        checkpoints.load(packed)


def test_tensors_without_plain_values_are_refused(tmp_path: Path, state: dict[str, Any]):
    name = "patch_level_decoder.base.wpe.weight"
    for tensor, message in (
        (state[name].to_sparse(), rf"sparse or nested tensors \({name}\); save dense"),
        (torch.empty(24, 64, device="meta"), rf"meta device \({name}\); save the model after"),
    ):
        torch.save({"model": {**state, name: tensor}}, tmp_path / "w.pth")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(NotaGenError, match=rf"w\.pth: .*{message}"):
                checkpoints.load(tmp_path / "w.pth")


FULL_DISK = """
import resource, sys
from pathlib import Path
from notagen_jax.cli import convert
from notagen_jax.errors import NotaGenError
source, *targets = map(Path, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for target in targets:
    try:
        convert.run(convert.Convert(source, target))
    except NotaGenError as error:
        print(error)
"""


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, weights: Path):
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(weights), str(out / "copy.pth"), str(out / "model")],
        capture_output=True,
        text=True,
        check=True,
    )
    pth, folder = done.stdout.splitlines()
    assert f"{out / 'copy.pth'}: cannot write (" in pth
    assert f"{out / 'model'}: cannot write (" in folder
    assert list(out.iterdir()) == []


def test_files_without_checksums_load(tmp_path: Path, state: dict[str, Any]):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": state}, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert_holds(checkpoints.load(tmp_path / "w.pth").params, state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "no model weights in it"),
        ({"epoch": 3}, r"no model weights in it \(it holds the entries 'epoch'\)"),
        ({"model": {}}, "no model weights in it"),
        ({"music_model.base.pooler.dense.bias": torch.ones(3)}, "no NotaGen tensors"),
    ],
)
def test_checkpoints_of_something_else(tmp_path: Path, content: Any, message: str):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(NotaGenError, match=message):
        checkpoints.load(tmp_path / "w.pth")


def test_wrong_tensors_are_named(tmp_path: Path, state: dict[str, Any]):
    name = "patch_level_decoder.base.h.1.ln_2.bias"
    others = {key: tensor for key, tensor in state.items() if key != name}
    for changed, message in (
        (others, f"missing: {name}"),
        (
            {**state, "patch_level_decoder.head.weight": torch.ones(2)},
            "unknown: patch_level_decoder.head.weight",
        ),
        ({**state, name: torch.ones(65)}, r"h\.1\.ln_2\.bias is \(65,\), expected \(64,\)"),
        (
            {**state, name: torch.full((64,), float("nan"))},
            r"h\.1\.ln_2\.bias holds values that are not finite",
        ),
        ({**state, name: torch.ones(64, dtype=torch.int8)}, r"not floating point \(.*h\.1\.ln_2\.bias\)"),
        ({**state, TIED: torch.ones(128, 64)}, r"lm_head\.weight differs"),
    ):
        torch.save({"model": changed}, tmp_path / "w.pth")
        with pytest.raises(NotaGenError, match=message):
            checkpoints.load(tmp_path / "w.pth")
