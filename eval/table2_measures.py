"""The measures of the paper's Table 2, for the ground truth and for the samples of a CLaMP-DPO run.

CLaMP 2 score: mean over prompts of the mean cosine of its pieces to the mean vector of its ground truth
    (paper section 3.4; fact sheet section 6).
Second judge: the same by a CLaMP 2 model that took no part in choosing.
Label accuracy: share of pieces to which linear classifiers on M3 features give their prompt's label
    (paper table 2; fact sheet section 8). Of the ground truth: the classifiers' test accuracy.
Bar alignment error: share of all bars whose voices differ in length (paper table 2).
Perplexity: e^NLL a character on held-out pieces, headed by their prompts, whole by stream windows
    (paper table 2; `eval.perplexity`).
Closest training piece: the largest share of a piece's text that stands in one training piece
    (`eval.similarity`), mean and largest over the pieces. Of the ground truth: of its held-out pieces.
Finished: share of samples that came to their end within the limit of characters.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from eval.label_accuracy import FittedClassifier, label_accuracy, label_classifiers
from eval.table2_texts import Copying, Texts
from notagen_jax import clamp2
from notagen_jax.clamp2 import Clamp2
from notagen_jax.files import read_json, write_atomic
from notagen_jax.notation import check
from notagen_jax.preference import centroid, clamp2_scores
from train.clamp_dpo.evaluation import average, read_evaluated, scores_by_style, summarise
from train.clamp_dpo.features import features_of
from train.clamp_dpo.ground_truth import Style, read_styles
from train.clamp_dpo.samples import read_samples
from train.clamp_dpo.selection import Heard, hear

Say = Callable[[str], object]
LABELS = ("period", "instrumentation", "composer")
FOLDER = "table2"
"""Folder in the run for what the table needs beyond the run's own files."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table; a measure that does not apply is None."""

    system: str
    """`ground truth`, or `K = 0` and so on."""
    score: float | None = None
    score_error: float | None = None
    """Standard error of the score."""
    second_score: float | None = None
    second_error: float | None = None
    labels: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Accuracy by kind of label; that of the ground truth is the classifiers' test accuracy."""
    bar_alignment_error: float | None = None
    perplexity: float | None = None
    finished: float | None = None
    aligned: float | None = None
    """Share of pieces whose voices agree in every bar."""
    copying: Copying | None = None
    """Closeness to training pieces; that of the ground truth is of its held-out pieces."""
    prompts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """CLaMP 2 score of each prompt."""
    second_prompts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The second judge's score of each prompt."""


class Measures:
    """What is measured of a run; features and log-probabilities are kept in its folder."""

    def __init__(self, run: Path, second_judge: str, label_model: str, say: Say) -> None:
        """Raises `NotaGenError` when `run` is no run of CLaMP-DPO."""
        self.run = run
        self.say = say
        remedy = "give the folder of a run of `python -m train.clamp_dpo`"
        self.settings = read_json(run / "settings.json", remedy)
        self.second_judge = second_judge
        self.label_model = label_model or second_judge or self.settings["clamp2"]

    @functools.cached_property
    def every_style(self) -> list[Style]:
        """All prompts with ground truth, those that the run leaves out too."""
        return read_styles(self.settings["ground_truth"], self.settings["split"])

    @functools.cached_property
    def styles(self) -> list[Style]:
        """The prompts that the run works on, in its order."""
        rows = read_json(self.run / "prompts.json", "run the same training command again")
        by_name = {style.name: style for style in self.every_style}
        return [by_name[row["name"]] for row in rows if not row["left_out"]]

    @property
    def iterations(self) -> list[int]:
        """The K that were evaluated."""
        folders = (self.run / "evaluation").glob("*/metrics.json")
        return sorted(int(path.parent.name) for path in folders)

    def heard(self, k: int) -> list[Heard]:
        """The evaluation samples of the policy K."""
        return [hear(drawn) for drawn in read_samples(self.run / "evaluation" / str(k) / "samples.jsonl")]

    def ground_truth_row(self) -> Row:
        """The ground truth measured as if it were samples."""
        truth = {style.name: self._truth_features(style, self.settings["clamp2"]) for style in self.styles}
        scores = {name: clamp2_scores(features, centroid(features)) for name, features in truth.items()}
        second: dict[str, np.ndarray] = {}
        if self.second_judge:
            vectors = {style.name: self._truth_features(style, self.second_judge) for style in self.styles}
            second = {name: clamp2_scores(features, centroid(features)) for name, features in vectors.items()}
        verdicts = [check(piece.text) for style in self.styles for piece in style.pieces]
        bars = sum(verdict.bars for verdict in verdicts)
        score, score_error = average(scores.values())
        second_score, second_error = average(second.values())
        return Row(
            system="ground truth",
            score=score,
            score_error=score_error,
            second_score=second_score,
            second_error=second_error,
            labels={name: fitted.test_accuracy for name, fitted in self.classifiers.items()},
            bar_alignment_error=sum(len(verdict.misaligned) for verdict in verdicts) / max(bars, 1),
            aligned=sum(verdict.aligned for verdict in verdicts) / max(len(verdicts), 1),
            copying=self._copying("held_out", [(piece.name, piece.text) for piece in self.texts.held_out]),
            prompts=_by_title(self.styles, scores),
            second_prompts=_by_title(self.styles, second),
        )

    def row(self, k: int) -> Row:
        """The evaluation samples of the policy K."""
        pieces = read_evaluated(self.run / "evaluation" / str(k) / "pieces.jsonl")
        whole = summarise(pieces)
        scores = scores_by_style(pieces)
        second = self._second_scores(k) if self.second_judge else {}
        score, score_error = average(scores.values())
        second_score, second_error = average(second.values())
        return Row(
            system=f"K = {k}",
            score=score,
            score_error=score_error,
            second_score=second_score,
            second_error=second_error,
            labels=self._label_accuracy(k),
            bar_alignment_error=whole.bar_alignment_error,
            perplexity=self._perplexity(k),
            copying=self._copying(str(k), [(s.drawn.name, s.drawn.text) for s in self.heard(k) if s.text]),
            finished=whole.finished,
            aligned=whole.aligned,
            prompts=_by_title(self.styles, scores),
            second_prompts=_by_title(self.styles, second),
        )

    @functools.cached_property
    def classifiers(self) -> dict[str, FittedClassifier]:
        """Linear classifiers of the labels, fitted on all ground truth; none for a run without prompts."""
        labelled = [style for style in self.every_style if style.prompt is not None]
        if not labelled:
            return {}
        pieces = [(style.prompt, piece) for style in labelled for piece in style.pieces]
        features = self._features(
            "ground_truth.m3", [piece.text for _, piece in pieces], self.label_model, projected=False
        )
        labels = {label: [getattr(prompt, label) for prompt, _ in pieces] for label in LABELS}
        return label_classifiers(features, labels)[0]

    @functools.cached_property
    def texts(self) -> Texts:
        """The built data sets of the run."""
        prompts = {style.prompt for style in self.styles}
        return Texts(self.settings["ground_truth"], self.settings["split"], prompts)

    def _perplexity(self, k: int) -> float | None:
        policy = self.settings["checkpoint"] if k == 0 else self.run / f"iteration-{k}" / "policy"
        return self.texts.perplexity(self.run / FOLDER / f"perplexity-{k}.json", policy, self.say)

    def _copying(self, name: str, pieces: Sequence[tuple[str, str]]) -> Copying | None:
        return self.texts.copying(self.run / FOLDER / f"closest-{name}.json", pieces, self.say)

    def _label_accuracy(self, k: int) -> dict[str, float]:
        """Accuracy of each classifier on the scored samples of the policy K."""
        prompts = {style.name: style.prompt for style in self.styles}
        heard = [sample for sample in self.heard(k) if sample.text is not None]
        if not self.classifiers or not heard:
            return {}
        features = self._features(f"{k}.m3", _texts(heard), self.label_model, projected=False)
        wanted = {label: [getattr(prompts[s.drawn.style], label) for s in heard] for label in LABELS}
        return label_accuracy(self.classifiers, features, wanted)

    def _second_scores(self, k: int) -> dict[str, np.ndarray]:
        """The second judge's scores of the samples of the policy K, by style."""
        heard = [sample for sample in self.heard(k) if sample.text is not None]
        if not heard:
            return {}
        features = self._features(f"{k}", _texts(heard), self.second_judge)
        found: dict[str, np.ndarray] = {}
        for style in self.styles:
            places = [n for n, sample in enumerate(heard) if sample.drawn.style == style.name]
            if places:
                center = centroid(self._truth_features(style, self.second_judge))
                found[style.name] = clamp2_scores(features[places], center)
        return found

    def _truth_features(self, style: Style, judge: str) -> np.ndarray:
        return self._truth(judge)[style.name]

    @functools.cache  # noqa: B019  (one instance lives as long as the program)
    def _truth(self, judge: str) -> dict[str, np.ndarray]:
        """Features of the run's ground truth under a judge, by style."""
        texts = [piece.text for style in self.styles for piece in style.pieces]
        if judge == self.settings["clamp2"]:
            path = self.run / "ground_truth.safetensors"
            features = features_of(path, lambda: _open(judge), texts, self.say)
        else:
            features = self._features("ground_truth", texts, judge)
        ends = np.cumsum([len(style.pieces) for style in self.styles])
        return dict(zip((s.name for s in self.styles), np.split(features, ends[:-1]), strict=True))

    def _features(self, name: str, texts: Sequence[str], judge: str, projected: bool = True) -> np.ndarray:
        """Features under a judge, kept in a folder that its path names."""
        folder = self.run / FOLDER / hashlib.sha256(judge.encode()).hexdigest()[:12]
        if not (folder / "judge.txt").is_file():
            write_atomic(folder / "judge.txt", judge + "\n")
        opened = functools.partial(_Features, judge, projected)
        return features_of(folder / f"{name}.safetensors", opened, texts, self.say)


class _Features:
    """A judge whose `music_features` are those of its music tower, or projected."""

    def __init__(self, judge: str, projected: bool) -> None:
        self._model, self._projected = _open(judge), projected

    def music_features(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (n, W)."""
        return self._model.music_features(texts, projected=self._projected)


@functools.cache
def _open(judge: str) -> Clamp2:
    return clamp2.load(judge)


def _by_title(styles: Sequence[Style], scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {style.title: float(scores[style.name].mean()) for style in styles if style.name in scores}


def _texts(heard: Sequence[Heard]) -> list[str]:
    return [sample.text for sample in heard if sample.text is not None]
