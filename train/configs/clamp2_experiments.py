"""CLaMP 2 experiments by name: the module of each says what it needs and what it should reach."""

from train.clamp2_config import Clamp2RunConfig
from train.configs import clamp2_judge, clamp2_official, m3_judge, m3_official

M3: dict[str, tuple[str, Clamp2RunConfig]] = {
    "judge": ("the packaged judge's music tower, on a laptop", m3_judge.CONFIG),
    "official": ("the published sizes", m3_official.CONFIG),
}
CLAMP2: dict[str, tuple[str, Clamp2RunConfig]] = {
    "judge": ("the packaged judge, on a laptop", clamp2_judge.CONFIG),
    "official": ("the published sizes, from M3 and XLM-RoBERTa", clamp2_official.CONFIG),
}
