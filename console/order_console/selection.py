"""Dead letters that were chosen: some by their ids, or all that a filter matches."""

from datetime import UTC, datetime

import msgspec

from order_console.forms import BadInput, Form
from order_processor_client.admin_models import DeadLetterFilter, Selection


def filter_of(form: Form) -> DeadLetterFilter:
    """Raises BadInput."""
    return DeadLetterFilter(
        event_type=form.optional("event_type"),
        group=form.optional("group"),
        subject=form.exact("subject") or None,
        since=form.time("since"),
        until=form.time("until"),
    )


def chosen(form: Form) -> Selection:
    """What somebody chose on the list. Raises BadInput.

    All that match means all that matched then: what comes later was not looked at, and is left alone.
    """
    if form.text("scope") == "all":
        wanted = filter_of(form)
        return msgspec.structs.replace(wanted, until=wanted.until or datetime.now(UTC))
    ids = [int(text) for text in form.texts("id") if text.isascii() and text.isdigit() and len(text) < 19]
    if not ids:
        raise BadInput("Nothing was chosen: tick at least one dead letter, or choose all that match.")
    return ids


def as_text(selection: Selection) -> str:
    """For a hidden field, from one step to the next."""
    return msgspec.json.encode(selection).decode()


def of_text(text: str) -> Selection:
    """Raises BadInput."""
    try:
        return msgspec.json.decode(text, type=list[int] | DeadLetterFilter)
    except msgspec.DecodeError:
        raise BadInput("The selection cannot be read. Choose again.") from None
