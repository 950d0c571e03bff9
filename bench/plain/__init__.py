"""The usual way, for comparison: SQLAlchemy's ORM, aio-pika, a polled outbox, message by message.

As the tutorials of these libraries have it, and nothing slower than that on purpose: outbox and inbox in the
transaction of what they belong to, a session and a transaction for each message, select and then update, a
connection for each publish, ten messages ahead, JSON by the standard library. Only HTTP is usually FastAPI's;
here it is Starlette under it, without validation, which is the faster of the two and no new dependency.

It keeps its promises while nothing fails. It is a yardstick, and no example.
"""
