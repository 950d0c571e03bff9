"""Every fault by its name. A fault is done again and again while orders are taken, and undone each time."""

from chaos.faults import processes, servers
from chaos.faults.fault import Fault

_MODULES = (processes, servers)

FAULTS: dict[str, Fault] = {fault.name: fault for module in _MODULES for fault in module.FAULTS}
