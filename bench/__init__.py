"""Measurements against peers, in the same run: ratios survive a noisy machine, absolute times do not."""
