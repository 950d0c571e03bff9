"""Exact decimal amounts. No binary float ever holds money."""

from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException, Inexact, InvalidOperation

PRICE_MAX = Decimal(10) ** 12
PLACES = Decimal("0.0001")
_ZERO = Decimal(0)

# Wide enough for the largest price; what would be rounded away raises instead.
_EXACT = Context(prec=40, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, Inexact])


def price_problem(price: Decimal) -> str | None:
    """None when `price` is a price, else what is wrong with it."""
    if not price.is_finite() or price <= 0:
        return "must be greater than 0"
    if price > PRICE_MAX:
        return "must be at most 10^12"
    try:
        price.quantize(PLACES, context=_EXACT)
    except DecimalException:
        return "must have at most 4 decimal places"
    return None


def canonical(amount: Decimal) -> Decimal:
    """The same amount in its one spelling: no exponent, no trailing zeros (12.50 → 12.5, 1.2E+3 → 1200)."""
    return _EXACT.add(_EXACT.normalize(amount), _ZERO)  # adding 0 takes an exponent above 0 away
