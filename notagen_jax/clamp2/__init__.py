"""CLaMP 2 and its music tower M3 (arXiv 2410.13267): features of scores and of texts.

    model = clamp2.load("judge")                      # or an official .pth, a directory, a run
    features = model.music_features(interleaved)      # float32 (n, 768); width of the model
    queries = model.text_features(["A Romantic art song by Schubert, Franz"])
    scores = preference.clamp2_scores(features, preference.centroid(truth))

`load` opens a model; `Clamp2.music_features` and `Clamp2.text_features` are its two towers. The CLaMP
2 score of a piece is its cosine to the mean feature of the ground-truth pieces
(`notagen_jax.preference`, `notagen score`).
"""

from notagen_jax.clamp2.config import OFFICIAL, OFFICIAL_M3, Clamp2Config
from notagen_jax.clamp2.features import Clamp2
from notagen_jax.clamp2.load import JUDGE, load

__all__ = ["JUDGE", "OFFICIAL", "OFFICIAL_M3", "Clamp2", "Clamp2Config", "load"]
