"""Score pre-processing: a score file in, the interleaved and the 15 rest-reduced texts out."""

from notagen_jax.score.listing import Score, is_score, scores_in
from notagen_jax.score.piece import Piece, piece_from_abc, read_piece, read_pieces
from notagen_jax.score.refusal import ScoreError
from notagen_jax.score.source import SCORE_SUFFIXES
from notagen_jax.score.spelling import KEYS

__all__ = [
    "KEYS",
    "SCORE_SUFFIXES",
    "Piece",
    "Score",
    "ScoreError",
    "is_score",
    "piece_from_abc",
    "read_piece",
    "read_pieces",
    "scores_in",
]
