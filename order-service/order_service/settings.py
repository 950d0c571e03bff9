"""This service's settings."""

from typing import Annotated

from msgspec import Meta

from service_kit.settings import Days, Name, Port, Seconds, Settings

ServiceUrl = Annotated[
    str,
    Meta(pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$", description="http://host:port or https://host:port"),
]


class OrderSettings(Settings, frozen=True, kw_only=True):
    """`reconcile_after_seconds`: how long an order may be pending before its event is sent again.

    `processor_url` is where processor-service answers, which is asked for its part of an order's timeline.
    `order_log_retention_days`: how long a stream of events can be resumed. `console`: whether the operators'
    page is served at `/console`. `webhooks_allow_private`: whether webhooks may go to private addresses, and
    over http. `webhooks_retention_days`: how long it is kept what was delivered.
    """

    service_name: Name = "order-service"
    port: Port = 8000
    reconcile_after_seconds: Seconds = 300.0
    processor_url: ServiceUrl = "http://127.0.0.1:8001"
    order_log_retention_days: Days = 7.0
    webhooks_allow_private: bool = False
    webhooks_retention_days: Days = 7.0
    console: bool = False
