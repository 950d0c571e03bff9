"""This service's settings."""

from typing import Annotated

from msgspec import Meta

from service_kit.settings import Name, Port, Seconds, Settings

RulesFile = Annotated[str | None, Meta(description="a TOML file that replaces the built-in rules")]
PolicyName = Annotated[str | None, Meta(description="module:callable that decides instead of the rules")]


class ProcessorSettings(Settings, frozen=True, kw_only=True):
    """`policy` (`module:callable`) replaces the rules, `rules_file` (TOML) the built-in ones.

    `success_rate` is the share of orders without a rule against them that succeed.
    """

    service_name: Name = "processor-service"
    port: Port = 8001
    success_rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    rules_file: RulesFile = None
    policy: PolicyName = None
    policy_timeout_seconds: Seconds = 30.0
