"""What a new version of a document breaks for those who rely on the old one.

Of requests and received messages, whatever was taken must be taken; of answers and sent messages, whatever
was promised must still be so. Fields may be added to answers, and answers and routes to the API.
"""

from collections.abc import Iterator
from typing import Any

from tools.documents import operations, resolved

Json = Any

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EXACT = ("pattern", "format", "multipleOf", "uniqueItems", "contentEncoding", "not", "if", "then", "else")


def openapi_breaks(old: Json, new: Json) -> list[str]:
    """Each break in words, the place first; none is compatible."""
    offered = {(method, path): operation for method, path, operation in operations(new)}
    breaks = []
    for method, path, operation in operations(old):
        place = f"{method} {path}"
        if (method, path) not in offered:
            breaks.append(f"{place}: is gone")
        else:
            breaks += [f"{place} {words}" for words in _operation(operation, offered[method, path], old, new)]
    return breaks


def asyncapi_breaks(old: Json, new: Json) -> list[str]:
    """The same of events: of what is sent and of what is accepted."""
    breaks = []
    for name, channel in old["channels"].items():
        there = new["channels"].get(name)
        if there is None or there["address"] != channel["address"]:
            breaks.append(f"channel {name}: is gone, or has another address")
        elif there["bindings"] != channel["bindings"]:
            breaks.append(f"channel {name}: its exchange or queue is another")
    for name, message in old["components"]["messages"].items():
        there = new["components"]["messages"].get(name)
        if there is None:
            breaks.append(f"message {name}: is gone")
            continue
        was, now = message["payload"], there["payload"]
        found = (
            _Schemas(was, now).refusals(was, now) if was["$id"].endswith(":accepted") else _answer(was, now)
        )
        breaks += [f"message {name}{words}" for words in found]
    return breaks


def _answer(was: Json, now: Json, old: Json = None, new: Json = None) -> Iterator[str]:
    """Where `now` promises less than `was` did."""
    return _Schemas(new or now, old or was, fields_may_come=True).refusals(now, was)


def _operation(was: Json, now: Json, old: Json, new: Json) -> Iterator[str]:
    yield from _parameters(was, now, old, new)
    yield from _request_body(was, now, old, new)
    for status, answer in was["responses"].items():
        if status not in now["responses"]:
            yield f"answer {status}: is gone"
            continue
        before, after = resolved(answer, old), resolved(now["responses"][status], new)
        for name in before.get("headers", {}).keys() - after.get("headers", {}).keys():
            yield f"answer {status}: header {name} is gone"
        for media_type, media in before.get("content", {}).items():
            if media_type not in after.get("content", {}):
                yield f"answer {status}: {media_type} is gone"
            else:
                shown = after["content"][media_type]["schema"]
                for words in _answer(media["schema"], shown, old, new):
                    yield f"answer {status}{words}"


def _parameters(was: Json, now: Json, old: Json, new: Json) -> Iterator[str]:
    before, after = (
        {
            (parameter["in"], parameter["name"]): parameter
            for parameter in (resolved(node, document) for node in operation["parameters"])
        }
        for operation, document in ((was, old), (now, new))
    )
    for where, name in after.keys() - before.keys():
        if after[where, name].get("required"):
            yield f"parameter {name}: is new and required"
    for (where, name), parameter in before.items():
        if (where, name) not in after:
            yield f"parameter {name}: is gone"
            continue
        if after[where, name].get("required") and not parameter.get("required"):
            yield f"parameter {name}: is required now"
        for words in _Schemas(old, new).refusals(parameter["schema"], after[where, name]["schema"]):
            yield f"parameter {name}{words}"


def _request_body(was: Json, now: Json, old: Json, new: Json) -> Iterator[str]:
    if "requestBody" not in was:
        if resolved(now.get("requestBody", {}), new).get("required"):
            yield "body: is required now"
        return
    if "requestBody" not in now:
        yield "body: is gone"
        return
    before, after = resolved(was["requestBody"], old), resolved(now["requestBody"], new)
    if after.get("required") and not before.get("required"):
        yield "body: is required now"
    for media_type, media in before["content"].items():
        if media_type not in after["content"]:
            yield f"body: {media_type} is gone"
        else:
            for words in _Schemas(old, new).refusals(media["schema"], after["content"][media_type]["schema"]):
                yield f"body{words}"


class _Schemas:
    """Looks for values that fit `before` and do not fit `after`, each with the document that it is of.

    Where it cannot tell (`pattern`, `if`), any difference is one. With `fields_may_come`, fields of
    objects that `after` does not know are none.
    """

    def __init__(self, before: Json, after: Json, *, fields_may_come: bool = False) -> None:
        self._documents = before, after
        self._fields_may_come = fields_may_come
        self._seen: set[tuple[str, str]] = set()

    def refusals(self, before: Json, after: Json) -> Iterator[str]:
        if isinstance(before, dict) and isinstance(after, dict) and "$ref" in before and "$ref" in after:
            pair = before["$ref"], after["$ref"]
            if pair in self._seen:
                return
            self._seen.add(pair)
        before, after = self._plain(before, 0), self._plain(after, 1)
        for key in ("anyOf", "oneOf"):
            if key in after:
                yield from self._branches(before.get(key, [before]), after[key])
        if not after.keys() & {"anyOf", "oneOf"} and (branches := before.get("anyOf", before.get("oneOf"))):
            for branch in branches:
                yield from self.refusals({**before, **branch, "anyOf": None, "oneOf": None}, after)
            return
        yield from self._values(before, after)
        yield from self._fields(before, after)
        if "items" in after:
            for words in self.refusals(before.get("items", {}), after["items"]):
                yield f" []{words}"

    def _plain(self, schema: Json, side: int) -> Json:
        """Without references, and with what all of `allOf` say in one."""
        schema = resolved(schema, self._documents[side])
        plain = {key: value for key, value in schema.items() if key != "allOf" and value is not None}
        for part in schema.get("allOf", ()):
            more = self._plain(part, side)
            fields = plain.get("properties", {}) | more.get("properties", {})
            required = [*plain.get("required", []), *more.get("required", [])]
            plain = {**more, **plain, "properties": fields, "required": required}
        return plain

    def _branches(self, before: list[Json], after: list[Json]) -> Iterator[str]:
        for branch in before:
            if all(any(True for _ in self.refusals(branch, other)) for other in after):
                yield f": {_words(branch)} is none of its forms any more"

    def _values(self, before: Json, after: Json) -> Iterator[str]:
        if (allowed := _types(after)) is not None and not (_types(before) or {"anything"}) <= allowed:
            yield f": is {_words(before.get('type'))} and {_words(after.get('type'))}"
        if (values := _enumerated(after)) is not None:
            known = _enumerated(before)
            if known is None or any(value not in values for value in known):
                yield f": is one of {_words(known)} and of {_words(values)}"
        for key in (*_LOWER, *_UPPER):
            if key in after and (key not in before or _stricter(key, before[key], after[key])):
                yield f": {key} is {before.get(key)} and {after[key]}"
        for key in _EXACT:
            if key in after and before.get(key) != after[key]:
                yield f": {key} is {_words(before.get(key))} and {_words(after[key])}"

    def _fields(self, before: Json, after: Json) -> Iterator[str]:
        known, fields = before.get("properties", {}), after.get("properties", {})
        for name in sorted(set(after.get("required", ())) - set(before.get("required", ()))):
            yield f" .{name}: is required on one side only"
        if after.get("additionalProperties") is False and not self._fields_may_come:
            if before.get("additionalProperties") is not False and _types(before) in (None, {"object"}):
                yield ": takes no further fields"
            for name in sorted(known.keys() - fields.keys()):
                yield f" .{name}: is gone"
        for name in sorted(known.keys() & fields.keys()):
            for words in self.refusals(known[name], fields[name]):
                yield f" .{name}{words}"


def _types(schema: Json) -> set[str] | None:
    """Of the values that fit; `integer` is a `number` too."""
    given = schema.get("type")
    if given is None:
        values = _enumerated(schema)
        return {_type_of(value) for value in values} if values else None
    types = {given} if isinstance(given, str) else set(given)
    return types | {"integer"} if "number" in types else types


def _type_of(value: Json) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _enumerated(schema: Json) -> list[Json] | None:
    if "const" in schema:
        return [schema["const"]]
    enum: list[Json] | None = schema.get("enum")
    return enum


def _stricter(key: str, before: float, after: float) -> bool:
    return after > before if key in _LOWER else after < before


def _words(value: Json) -> str:
    return "anything" if value is None else str(value)
