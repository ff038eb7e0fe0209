"""Stream rows without holding a database connection while the client takes its time, or after it has left.

    async def after(db: AsyncSession, last: Article | None) -> Sequence[Article]:
        query = select(Article).where(Article.id > (last.id if last else 0)).order_by(Article.id)
        return (await db.scalars(query.limit(100))).all()

    @app.get("/articles.jsonl")
    async def export() -> StreamingResponse:
        return StreamingResponse(f"{row.title}\\n" async for row in rows(Session, after))

Use when   a stream reads from a database: one session held for the whole stream is one connection for each
           reader, and the pool of 5 + 10 is empty with the 16th (`connection-pool`).
Not when   the whole answer fits into memory: fetch it, close the session, then answer.
Costs      a query for each page, on an indexed key. Pages see what was committed in between: for one
           consistent picture write the export to a file first.
Python     3.9 and later; SQLAlchemy 2 (`async_sessionmaker(engine, expire_on_commit=False)`), AnyIO.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Callable, Optional, TypeVar

from anyio import move_on_after
from sqlalchemy.ext.asyncio import AsyncSession

Row = TypeVar("Row")
CLOSE = 5.0  # seconds for a rollback and the return of the connection


@asynccontextmanager
async def session(factory: Callable[[], AsyncSession]) -> AsyncIterator[AsyncSession]:
    """A session that gives its connection back also where the task is being cancelled.

    On a disconnect each `await` in a plain `finally` is cancelled too, so the clean-up ends at its first one.
    If a `close()` comes after that, the connection stays lent, and the pool runs dry.
    """
    opened = factory()
    try:
        yield opened
    finally:
        with move_on_after(CLOSE, shield=True):
            await opened.close()


async def rows(
    factory: Callable[[], AsyncSession],
    after: Callable[[AsyncSession, Optional[Row]], Awaitable[Sequence[Row]]],
) -> AsyncIterator[Row]:
    """Every row, page by page; `after(session, last)` fetches the page that follows the row `last`."""
    last = None
    while True:
        async with session(factory) as db:
            page = await after(db, last)
        for last in page:
            yield last
        if not page:
            return


if __name__ == "__main__":  # a demonstration, with numbers in place of a table

    async def numbers(db: AsyncSession, last: Optional[int]) -> Sequence[int]:
        first = (last or 0) + 1
        return range(first, min(first + 3, 8))

    async def export() -> None:
        async for row in rows(AsyncSession, numbers):
            print("row", row)

    asyncio.run(export())
