"""The adapter of the broker port that needs no server."""

from service_kit.inprocess.broker import InProcessBroker

__all__ = ["InProcessBroker"]
