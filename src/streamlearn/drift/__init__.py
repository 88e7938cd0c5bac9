"""Alarm and confirmation: cheap detectors on every loss, a test with a stated error budget behind them."""
