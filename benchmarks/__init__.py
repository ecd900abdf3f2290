"""Taurine and its peers, measured side by side on one server: `python -m benchmarks`."""
