"""A semaphore whose permits are lost one by one.

`render` takes a permit and gives it back, but not when the template is missing: the exception skips the release.
After two such requests no permit is left, nobody is inside, and each further request waits for ever.
"""

import asyncio

from fastapi import FastAPI, HTTPException

STATE = "tasks-waiting"
CAUSE = "lock"
TRIGGER = ("/render/no-such-template",)
COUNT = 2
CLIENT = "is answered"
SYMPTOM = "/render/invoice"
CONTROL = "/health"

app = FastAPI()
templates = {"invoice": "Dear {name}"}
renderers = None


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/render/{template}")
async def render(template: str):
    global renderers
    renderers = renderers or asyncio.Semaphore(2)  # Python 3.9 binds it to the loop that is there when it is made
    await renderers.acquire()  # <-- lock
    if template not in templates:
        raise HTTPException(404)
    await asyncio.sleep(0)
    renderers.release()
    return {"text": templates[template]}
