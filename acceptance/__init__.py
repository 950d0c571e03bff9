"""Black-box tests: both services as real processes, on real servers."""
