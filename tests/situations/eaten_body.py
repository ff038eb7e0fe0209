"""A middleware reads the request's body and hands the emptied channel on: the route waits for a body for ever."""

from fastapi import FastAPI
from pydantic import BaseModel

STATE = "tasks-waiting"
CAUSE = "other"
TRIGGER = ("/parcels",)
COUNT = 2
CONTROL = "/health"

api = FastAPI()


class Parcel(BaseModel):
    weight: float


@api.get("/health")
async def health():
    return {"status": "ok"}


@api.get("/parcels")
@api.post("/parcels")
async def parcels(parcel: Parcel):
    return parcel


class SignatureCheck:
    def __init__(self, inner):
        self.inner = inner

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/parcels":
            while (await receive()).get("more_body"):
                pass
        await self.inner(scope, receive, send)  # <-- other


app = SignatureCheck(api)
