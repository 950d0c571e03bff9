"""This service's settings."""

from service_kit.settings import Name, Port, Seconds, Settings


class OrderSettings(Settings, frozen=True, kw_only=True):
    """`reconcile_after_seconds`: how long an order may be pending before its event is sent again."""

    service_name: Name = "order-service"
    port: Port = 8000
    reconcile_after_seconds: Seconds = 300.0
