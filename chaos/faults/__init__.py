"""Every fault by its name. A fault is done again and again while orders are taken, and undone each time."""

from chaos.faults import broker, crashes, messages, network, postgres, processes, queues, surroundings
from chaos.faults.fault import Fault

_MODULES = (processes, crashes, broker, queues, network, postgres, messages, surroundings)

FAULTS: dict[str, Fault] = {fault.name: fault for module in _MODULES for fault in module.FAULTS}

PAIRS = [
    ("broker-kill", "kill-order"),
    ("broker-kill", "postgres-immediate"),
    ("crash-confirm-processor", "crash-before-ack-order"),
    ("reset-storm", "kill-processor"),
    ("commit-answer-lost", "confirm-lost"),
    ("duplicates", "kill-processor"),
    ("reordered", "sigterm-order"),
    ("poison-batch", "sessions-ended"),
    ("queue-deleted", "kill-order"),
    ("slow-network", "crash-publish-order"),
    ("memory-alarm", "sigterm-order"),
    ("eager-reconciler", "duplicates"),
]
"""Two at once: those whose ways of healing meet."""
