"""Both services as real processes on servers of their own, which faults are done to; and what then must hold."""
