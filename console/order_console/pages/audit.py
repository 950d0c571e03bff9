"""Who changed what, when and why: the logs of both services as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import Route

from order_console.access import PATH
from order_console.services import Answer
from order_console.site import Site, Visit
from order_processor_client.admin_models import AuditEntry, AuditPage
from order_processor_client.request import Service

ENTRIES_PER_PAGE = 50

Answers = Mapping[Service, Answer[AuditPage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    service: Service
    entry: AuditEntry


def routes(site: Site) -> list[Route]:
    async def audit(visit: Visit) -> Response:
        afters = {service: visit.query.whole(service, 0, least=0) for service in Service}
        answers = await site.services.both(
            lambda admin: admin.audit(after=afters[admin.service] or None, limit=ENTRIES_PER_PAGE)
        )
        shown = newest(answers)
        following = older(answers, shown, afters)
        return site.show(
            visit,
            "audit.html",
            answers=answers,
            entries=shown,
            first=not any(afters.values()),
            older=visit.query.url(f"{PATH}/audit", **following) if following else None,
        )

    return [site.page("/audit", audit)]


def newest(answers: Answers) -> list[Entry]:
    """Of both, the newest that fill a page."""
    pages = {service: answer.value.entries for service, answer in answers.items() if answer.value}
    all_ = [Entry(service=service, entry=entry) for service, entries in pages.items() for entry in entries]
    return sorted(all_, key=lambda entry: entry.entry.at, reverse=True)[:ENTRIES_PER_PAGE]


def older(answers: Answers, shown: Sequence[Entry], afters: Mapping[Service, int]) -> Mapping[str, int]:
    """After which entry of each service the next page begins; empty when there is no next page."""
    pages = [answer.value for answer in answers.values() if answer.value]
    if not any(page.has_more for page in pages) and len(shown) == sum(len(page.entries) for page in pages):
        return {}
    return {
        str(service): min([line.entry.id for line in shown if line.service == service] or [after])
        for service, after in afters.items()
    }
