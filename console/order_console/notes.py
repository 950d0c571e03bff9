"""What a page says after a change. Its address names the note: nobody can make it say anything else."""

from collections.abc import Mapping

from order_console.forms import Form

NOTES: Mapping[str, str] = {
    "discarded": "Dead letters discarded: {}.",
    "reemitted": "Orders whose event was written again: {}.",
    "paused": "Consuming is paused.",
    "resumed": "Consuming goes on.",
    "reloaded": "The rules were read again.",
    "revoked": "The key is revoked: within five seconds no process takes it any more.",
    "named": "From now on the audit log says your name.",
}


def note_of(query: Form) -> str | None:
    words, count = NOTES.get(query.text("note")), query.text("count")
    if words is None:
        return None
    known = count.isascii() and count.isdigit() and len(count) < 16
    return words.format(f"{int(count):,}" if known else "some")
