"""The front page: articles that came in last."""

from __future__ import annotations

from fastapi import APIRouter, Query

from app.models import Article
from app.services import archive

router = APIRouter()


@router.get("/articles")
def articles(limit: int = Query(default=20, ge=1, le=200)) -> list[Article]:
    return archive.latest(limit)
