"""Programs that measure, each ratio against a reference in the same run: `python -m benchmarks.learn --quick --json FILE`."""
