"""What both services store beside their own: an outbox and an inbox, as mapped classes."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Identity, Index, Text, func, make_url, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Sessions = async_sessionmaker[AsyncSession]


class Base(DeclarativeBase):
    type_annotation_map = {str: Text, int: BigInteger, Any: JSONB, datetime: DateTime(timezone=True)}  # noqa: RUF012


class OutboxEvent(Base):
    __tablename__ = "outbox"
    __table_args__ = (Index("outbox_unpublished", "id", postgresql_where=text("published_at IS NULL")),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    event_type: Mapped[str]
    payload: Mapped[Any]
    published_at: Mapped[datetime | None]


class ProcessedEvent(Base):
    __tablename__ = "processed_inbox"

    event_key: Mapped[str] = mapped_column(primary_key=True)
    processed_at: Mapped[datetime] = mapped_column(server_default=func.now())


async def sessions(dsn: str) -> Sessions:
    """Of an engine with the usual pool; the tables of all imported models are made."""
    engine = create_async_engine(make_url(dsn).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return async_sessionmaker(engine, expire_on_commit=False)
