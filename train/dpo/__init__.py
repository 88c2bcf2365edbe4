"""DPO on chosen and rejected pieces: `python -m train.dpo` (paper section 3.4)."""
