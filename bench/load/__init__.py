"""The load generator: a process of its own that costs few microseconds of CPU a request."""
