"""CLaMP-DPO: K rounds of sampling, judging by CLaMP 2, choosing and DPO (paper section 3.4).

    python -m train.clamp_dpo mini --run runs/clamp-dpo --ground-truth FOLDER…

`docs/clamp-dpo.md` tells what stands in a run's folder.
"""
