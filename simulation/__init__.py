"""Deterministic simulation: the real loops and use cases on a model database and a model broker.

`docs/simulation.md` tells how to run a seed and how to read its trace.
"""
