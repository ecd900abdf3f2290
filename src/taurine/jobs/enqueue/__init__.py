"""Accepting jobs, and hearing what became of them."""
