"""What the same machine does without us: the figures beside ours."""
