"""The rules in force, and others that are tried on past orders before they are."""

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from order_console.services import ADMIN
from order_console.site import Site, Visit, reason_of, to
from order_console.trouble import trouble_of
from order_processor_client.admin_models import Rehearsal
from order_processor_client.errors import ClientError
from order_processor_client.request import Service

REHEARSED_ORDERS, REHEARSED_ORDERS_MAX = 10_000, 1_000_000


def routes(site: Site) -> list[Route]:
    rules = ADMIN[Service.PROCESSOR]

    async def in_force(visit: Visit) -> Response:
        return await _show(site, visit, toml="", last=REHEARSED_ORDERS)

    async def try_out(visit: Visit) -> Response:
        """Checked, and with `rehearse` run over past orders; nothing is written."""
        toml = visit.form.exact("toml").replace("\r\n", "\n")
        last = visit.form.whole("last", REHEARSED_ORDERS, most=REHEARSED_ORDERS_MAX)
        try:
            checked = await site.services.ask(rules.check_rules(toml), operator=visit.operator)
            rehearsal: Rehearsal | None = None
            if visit.form.text("action") == "rehearse":
                request = rules.rehearse_rules(toml, last)
                rehearsal = await site.services.ask(request, operator=visit.operator)
        except ClientError as error:
            return await _show(site, visit, toml=toml, last=last, trouble=trouble_of(error, changing=False))
        return await _show(site, visit, toml=toml, last=last, checked=checked, rehearsal=rehearsal)

    async def reload(visit: Visit) -> Response:
        request = rules.reload_rules(reason_of(visit.form))
        await site.services.ask(request, operator=visit.operator)
        return to("/rules", note="reloaded")

    return [
        site.page("/rules", in_force),
        site.form("/rules", try_out),
        site.form("/rules/reload", reload),
    ]


async def _show(site: Site, visit: Visit, **values: Any) -> Response:
    in_force = await site.services.attempt(ADMIN[Service.PROCESSOR].rules())
    defaults: dict[str, Any] = {"checked": None, "rehearsal": None, "trouble": None}
    return site.show(visit, "rules.html", in_force=in_force, **(defaults | values))
