"""Speed and size, ours beside the peers', measured in one run: `python -m benchmarks [--json] [--quick] [names...]`."""
