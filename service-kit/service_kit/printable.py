"""Text of others, safe on a terminal."""


def printable(text: str) -> str:
    """Text that a terminal only shows: whatever could command it is escaped, also what turns the writing."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
