"""The API keys of each service: who may ask, and how to let somebody in or shut them out."""

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from order_console.forms import BadInput, Form
from order_console.services import ADMIN, NAMES
from order_console.site import Site, Visit, reason_of, service_of, to
from order_console.trouble import trouble_of
from order_processor_client.admin_models import ApiKey, MadeApiKey
from order_processor_client.errors import ClientError
from order_processor_client.request import Request, Service
from service_kit.http.problems import Problem

KEYS_PER_PAGE = 50
DAYS_MAX, OVERLAP_HOURS, OVERLAP_HOURS_MAX = 3650, 24.0, 2160
ROLES = {
    "orders:read": "read orders, their list and their timelines",
    "orders:write": "send orders and cancel them",
    "admin": "all of that, and whatever this console can",
}


def routes(site: Site) -> list[Route]:
    async def keys(visit: Visit) -> Response:
        service = service_of(visit.query) if visit.query.text("service") else Service.ORDER
        return await _show(site, visit, service)

    async def create(visit: Visit) -> Response:
        """What is wrong is told above the form, with all that was entered still in it."""
        service = service_of(visit.form)
        try:
            made = await site.services.ask(_new_key(service, visit.form), operator=visit.operator)
        except (BadInput, ClientError) as error:
            trouble = trouble_of(error, changing=True)
            return await _show(site, visit, service, status=trouble.status, trouble=trouble)
        return _show_once(site, visit, service, made)

    async def key(visit: Visit) -> Response:
        service, id_ = service_of(visit.query), _id(visit.query)
        found = await _key(site, service, id_)
        return site.show(
            visit,
            "key.html",
            service=service,
            key=found,
            overlap_hours=OVERLAP_HOURS,
            overlap_hours_max=OVERLAP_HOURS_MAX,
        )

    async def rotate(visit: Visit) -> Response:
        form, service = visit.form, service_of(visit.form)
        overlap_hours = form.number("overlap_hours", OVERLAP_HOURS, least=0, most=OVERLAP_HOURS_MAX)
        request = ADMIN[service].rotate_key(_id(form), overlap_hours, reason_of(form))
        made = await site.services.ask(request, operator=visit.operator)
        return _show_once(site, visit, service, made)

    async def revoke(visit: Visit) -> Response:
        service = service_of(visit.form)
        request = ADMIN[service].revoke_key(_id(visit.form), reason_of(visit.form))
        await site.services.ask(request, operator=visit.operator)
        return to("/keys", service=service, note="revoked")

    return [
        site.page("/keys", keys),
        site.form("/keys", create),
        site.page("/keys/key", key),
        site.form("/keys/rotate", rotate),
        site.form("/keys/revoke", revoke),
    ]


async def _show(
    site: Site, visit: Visit, service: Service, *, status: int = 200, trouble: Any = None
) -> Response:
    after = visit.query.whole("after", 0, least=0)
    page = await site.services.attempt(ADMIN[service].keys(after=after or None, limit=KEYS_PER_PAGE))
    return site.show(
        visit,
        "keys.html",
        status=status,
        service=service,
        page=page,
        first=not after,
        form=visit.form,
        trouble=trouble,
        roles=ROLES,
        days_max=DAYS_MAX,
    )


def _show_once(site: Site, visit: Visit, service: Service, made: MadeApiKey) -> Response:
    """The secret is on this answer to a form and nowhere else: a redirect would need it in an address."""
    return site.show(visit, "key_made.html", service=service, key=made.key, secret=made.secret)


def _new_key(service: Service, form: Form) -> Request[MadeApiKey]:
    """Raises BadInput."""
    if not form.text("name"):
        raise BadInput("A name is needed: whose key is it?")
    if not form.texts("roles"):
        raise BadInput("At least one role is needed: a key without any could do nothing.")
    customers = [line.strip() for line in form.exact("customers").split("\n") if line.strip()]
    return ADMIN[service].create_key(
        form.text("name"),
        form.texts("roles"),
        reason_of(form),
        customers=customers or None,
        days=form.whole("days", 0, most=DAYS_MAX) or None,
    )


async def _key(site: Site, service: Service, id_: int) -> ApiKey:
    """The one of this id. Raises Problem when there is none, ClientError."""
    page = await site.services.ask(ADMIN[service].keys(after=id_ + 1, limit=1))
    found = next((key for key in page.keys if key.id == id_), None)
    if found is None:
        raise Problem.of_status(404, f"{NAMES[service]} has no key {id_}.")
    return found


def _id(form: Form) -> int:
    """Raises BadInput. The list takes ids up to 2**63 - 1, and is asked for what comes before the next."""
    return form.whole("id", 0, most=2**63 - 2)
