"""The usual way, for comparison: poll the outbox, a connection and a transaction for each message.

It keeps its promises while nothing fails. It is a yardstick, and no example.
"""
