"""The rules of the oracle: each file judges one side of a run, from facts alone."""
