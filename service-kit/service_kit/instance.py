"""Which process of a service this is, as records and answers call it."""

import os
import socket

from service_kit.settings import Settings

_HOST_LENGTH_MAX = 60


def instance_name(settings: Settings) -> str:
    """What APP__INSTANCE says, else the machine's name and the process's number, such as `web-1-4711`."""
    host = socket.gethostname().partition(".")[0][:_HOST_LENGTH_MAX]
    return settings.instance or f"{host}-{os.getpid()}"
