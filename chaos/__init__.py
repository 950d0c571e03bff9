"""Both services as real processes on servers of their own; faults are done to them, and then judged."""
