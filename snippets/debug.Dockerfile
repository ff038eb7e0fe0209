# Use when   a service in a container may hang one day: py-spy is in the image, stops are clean.
# Not when   it hangs now: do not rebuild. Capture from the host, as root: its processes are the host's too.
# Costs      the size of py-spy in the image. It does nothing until it is called, and may attach only with the
#            capability that debug.compose.yaml grants.
# Versions   Docker, Podman; Python 3.9 and later. Not run by this project's tests, for want of an engine.

FROM python:3.12-slim
WORKDIR /srv/app

COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt "py-spy>=0.4.3" \
    && useradd --system --no-create-home app

COPY app app
COPY capture.sh /usr/local/bin/capture.sh

USER app

# In brackets: a shell in front of uvicorn would keep the signal to itself, and each stop would take the whole
# grace period and end in SIGKILL. uvicorn's own grace is shorter than compose's: the lifespan comes after it.
CMD ["python", "-m", "uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8000", \
     "--timeout-graceful-shutdown", "5"]

# While it hangs, and before any restart:
#   docker compose exec -u 0 app sh /usr/local/bin/capture.sh 1 /tmp/evidence
#   docker compose cp app:/tmp/evidence .  &&  python scripts/hang.py diagnose evidence --code SOURCE_TREE
