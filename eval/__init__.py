"""Measurements: speed, likelihood and quality, against the PyTorch original where there is one."""
