"""CLaMP 2 and M3 files: opened in every form, converted both ways, refused clearly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notagen_jax import checkpoints, clamp2
from notagen_jax.checkpoints.directory import write_directory
from notagen_jax.clamp2.names import CLAMP2
from notagen_jax.clamp2.tokenizer import SentencePieceTokenizer, open_tokenizer
from notagen_jax.cli import convert
from notagen_jax.errors import NotaGenError
from tests.clamp2_models import TINY, TINY_M3, pieces, torch_clamp2, torch_m3
from train.label_tokenizer import learn

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

SENTENCES = [
    "A Romantic art song by Schubert, Franz",
    "A Baroque choral work by Bach, Johann Sebastian",
    "Ein Lied von Franz Schubert",
] * 4


@pytest.fixture(scope="module")
def modules() -> dict[str, Any]:
    return {"clamp2": torch_clamp2(), "m3": torch_m3()}


@pytest.fixture(scope="module")
def files(modules: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files as the official training code saves them."""
    folder = tmp_path_factory.mktemp("official")
    made = {}
    for name, module in modules.items():
        # Older Hugging Face versions also store the positions.
        state = {**module.state_dict()}
        tower = "music_model" if name == "clamp2" else "encoder"
        state[f"{tower}.base.embeddings.position_ids"] = torch.arange(40)[None]
        made[name] = folder / f"weights_{name}.pth"
        torch.save({"model": state, "epoch": 3, "best_epoch": 2, "min_eval_loss": 0.5}, made[name])
    return made


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model's folder: tokenizer.json, and the config.json that Hugging Face writes."""
    folder = tmp_path_factory.mktemp("xlm-roberta")
    learn(SENTENCES, 60).save(str(folder / "tokenizer.json"))
    settings = {
        "model_type": "xlm-roberta",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "layer_norm_eps": 1e-6,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(("name", "config"), [("clamp2", TINY), ("m3", TINY_M3)])
def test_a_file_goes_to_a_directory_and_back(name, config, files, modules, tmp_path):
    assert convert.run(convert.Convert(files[name], tmp_path / "ours")) == 0
    assert convert.run(convert.Convert(tmp_path / "ours", tmp_path / "back.pth")) == 0
    content = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    modules[name].load_state_dict(content, strict=True)
    for key, tensor in modules[name].state_dict().items():
        assert torch.equal(content[key], tensor), key
    opened = clamp2.load(tmp_path / "ours")
    assert opened.config.sizes == config.sizes
    features = opened.music_features(pieces()[:1])
    np.testing.assert_array_equal(features, clamp2.load(files[name]).music_features(pieces()[:1]))
    assert features.shape == (1, 40 if name == "clamp2" else 64)


def test_a_directory_keeps_the_tokenizer_and_its_settings(files, text_folder, tmp_path, capsys):
    with pytest.raises(NotaGenError, match=r"need the tokenizer.*--tokenizer FOLDER"):
        clamp2.load(files["clamp2"]).text_features(["A song"])
    direct = clamp2.load(files["clamp2"], tokenizer=text_folder)
    assert (direct.config.text_heads, direct.config.text_norm_epsilon) == (2, 1e-6)
    options = convert.Convert(files["clamp2"], tmp_path / "ours", tokenizer=text_folder)
    convert.run(options)
    assert "CLaMP 2: " in capsys.readouterr().out
    opened = clamp2.load(tmp_path / "ours")
    assert opened.config == direct.config
    np.testing.assert_array_equal(opened.text_features(SENTENCES[:2]), direct.text_features(SENTENCES[:2]))
    # Converting again, from another file and without the option, keeps a tokenizer that is there.
    convert.run(convert.Convert(tmp_path / "ours", tmp_path / "half", dtype="bfloat16"))
    close = clamp2.load(tmp_path / "half").text_features(SENTENCES[:2])
    np.testing.assert_allclose(close, opened.text_features(SENTENCES[:2]), atol=0.05)


def test_a_tokenizer_must_fit(files, text_folder, tmp_path):
    with pytest.raises(NotaGenError, match="holds none"):
        convert.run(convert.Convert(files["clamp2"], tmp_path / "back.pth", tokenizer=text_folder))
    with pytest.raises(NotaGenError, match="no text tower"):
        convert.run(convert.Convert(files["m3"], tmp_path / "m3", tokenizer=text_folder))
    with pytest.raises(NotaGenError, match="M3 model has no text tower"):
        clamp2.load(files["m3"]).text_features(["A song"])
    with pytest.raises(NotaGenError, match="no tokenizer here"):
        clamp2.load(files["clamp2"], tokenizer=tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(NotaGenError, match=r"tokenizer\.json: not a tokenizer"):
        clamp2.load(files["clamp2"], tokenizer=tmp_path)
    larger = tmp_path / "larger"
    larger.mkdir()
    learn([chr(code) * 3 for code in range(200, 400)], 400).save(str(larger / "tokenizer.json"))
    with pytest.raises(NotaGenError, match="no tokenizer of this model"):
        convert.run(convert.Convert(files["clamp2"], tmp_path / "ours", tokenizer=larger))
    (larger / "config.json").write_text(json.dumps({"num_attention_heads": 12, "hidden_size": 768}))
    with pytest.raises(NotaGenError, match="another text model"):
        clamp2.load(files["clamp2"], tokenizer=larger)


def test_unknown_heads_are_asked_for(tmp_path):
    """Shapes do not tell how many heads a narrow text tower has."""
    config = TINY.replace(text_hidden_size=48, text_heads=4)
    path = tmp_path / "narrow.pth"
    torch.save({"model": torch_clamp2(config).state_dict()}, path)
    learn(SENTENCES, 60).save(str(tmp_path / "tokenizer.json"))
    opened = clamp2.load(path, tokenizer=tmp_path)
    assert opened.music_features(pieces()[:1]).shape == (1, 40)
    with pytest.raises(NotaGenError, match=r"attention heads.*config\.json"):
        opened.text_features(["A song"])


def test_sentencepiece_gives_xlm_roberta_s_numbers(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    transformers = pytest.importorskip("transformers")
    (tmp_path / "text").write_text("\n".join(SENTENCES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"),
        model_prefix=str(tmp_path / "sentencepiece.bpe"),
        vocab_size=58,
        hard_vocab_limit=False,
        model_type="unigram",
        minloglevel=2,
    )
    ours = open_tokenizer(tmp_path)
    assert isinstance(ours, SentencePieceTokenizer)
    pieces_of = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sentencepiece.bpe.model"))
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + [
        (pieces_of.id_to_piece(i), pieces_of.get_score(i)) for i in range(3, pieces_of.get_piece_size())
    ]
    theirs = transformers.XLMRobertaTokenizer(vocab=vocabulary)
    for text in ["A song by Schubert", "Lied</s>Franz Schubert", "x! strange text"]:
        assert ours.encode(text) == theirs(text)["input_ids"]
    assert ours.vocabulary == len(theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("music_proj.bias"), r"missing: music_proj\.bias"),
        (lambda state: state.update(extra=torch.ones(2)), "unknown: extra"),
        (
            lambda state: state.update({"text_proj.bias": torch.ones(3)}),
            r"text_proj\.bias is \(3,\)",
        ),
        (lambda state: state.update({"music_model.patch_embedding.weight": torch.ones(50, 64)}), "width 50"),
        (lambda state: [state.pop(name) for name in list(state) if name.startswith("music")], "no CLaMP 2"),
    ],
)
def test_tensors_of_another_model_are_named(change, message, modules, tmp_path):
    state = dict(modules["clamp2"].state_dict())
    change(state)
    torch.save({"model": state}, tmp_path / "odd.pth")
    with pytest.raises(NotaGenError, match=message) as caught:
        clamp2.load(tmp_path / "odd.pth")
    assert str(tmp_path / "odd.pth") in str(caught.value)


def test_each_kind_of_model_is_refused_as_the_other(files):
    with pytest.raises(NotaGenError, match="no NotaGen tensors"):
        checkpoints.load(files["clamp2"])
    with pytest.raises(NotaGenError, match="no CLaMP 2 or M3 tensors"):
        clamp2.load(checkpoints.locate("mini", "mini"))
    with pytest.raises(NotaGenError, match="or judge"):
        clamp2.load("nowhere")


def test_a_directory_of_other_sizes_is_refused(files, tmp_path):
    stored = checkpoints.open_stored(files["m3"], layouts=(CLAMP2,))
    write_directory(tmp_path / "m3", stored)
    config = tmp_path / "m3" / "config.json"
    config.write_text(config.read_text().replace('"music_layers": 2', '"music_layers": 3'))
    with pytest.raises(NotaGenError, match=r"music_layers is 3 in config\.json and 2"):
        clamp2.load(tmp_path / "m3")
