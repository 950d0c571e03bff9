"""Classes of values."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A keyword-only dataclass whose objects are equal by what they hold, and never change.

    The type checker sees to the latter: a dataclass that is frozen when it runs takes twice as long to make,
    and each order is made of several.
    """
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
