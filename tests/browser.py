"""JupyterLab, Notebook 7 and Voila on a port of their own, and Debian's Chromium to look at them.

    with browser.serving(folder) as site, browser.chromium() as chrome:
        page = browser.opened(chrome, site, "triage.ipynb")

Servers have config, data and home folders of their own, listen on 127.0.0.1 only, and end with the block.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postgres import free_port

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
TOKEN = "only-for-this-test"
ROOT = Path(__file__).resolve().parents[1]
SERVERS = {
    "jupyterlab": [
        "jupyterlab",
        "--ip=127.0.0.1",
        "--allow-root",
        f"--IdentityProvider.token={TOKEN}",
        "--expose-app-in-browser",
    ],
    "voila": ["voila", "--Voila.ip=127.0.0.1", f"--token={TOKEN}", "--show_tracebacks=True"],
}
SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false"}',  # or it asks whether it may
    "notebook-extension/tracker": '{"windowingMode": "none"}',
}  # every cell is on the page, also far below
FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "IPYTHONDIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "HOME",
)


@dataclass(frozen=True)
class Site:
    url: str
    folder: Path

    def at(self, path: str) -> str:
        return f"{self.url}/{path}{'&' if '?' in path else '?'}token={TOKEN}"


def missing() -> str:
    """Why no page can be looked at here, in one sentence; "" where it can."""
    if not Path(CHROMIUM).exists():
        return "Chromium is not installed. Next: sudo apt-get install chromium"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return f"playwright is not installed. Next: {sys.executable} -m pip install playwright"
    return ""


@contextmanager
def serving(folder: Path, program: str = "jupyterlab", *more: str, **env: str) -> Iterator[Site]:
    """The server of the notebooks in `folder`. Raises RuntimeError with the end of its log where none comes up."""
    home = folder / ".server"
    for name, text in SETTINGS.items():
        file = home / "jupyterlab_settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HANG_", "JUPYTER", "PYTEST"))}
    clean.update({name: str(home / name.lower()) for name in FOLDERS}, HANG_DEBUG_HOME=str(ROOT), **env)
    port = free_port()  # Voila cannot say which one the kernel chose
    command = [
        sys.executable,
        "-m",
        *SERVERS[program],
        "--no-browser",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        *more,
    ]
    log = home / f"{program}.log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=clean, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(process, log)
        yield Site(f"http://127.0.0.1:{port}", folder)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        if "running at" in log.read_text(errors="replace"):
            return
        time.sleep(0.05)
    raise RuntimeError(f"The server did not come up. Its log ends:\n{log.read_text(errors='replace')[-2000:]}")


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield one
        finally:
            one.close()


def copied(folder: Path, name: str = "triage.ipynb") -> Path:
    """The notebook alone, for JupyterLab writes into what it opens; the engine is found by HANG_DEBUG_HOME."""
    return Path(shutil.copy(ROOT / "notebooks" / name, folder / name))


def opened(chrome: Any, site: Site, name: str, width: int = 1440, height: int = 2000) -> Any:
    """The notebook in JupyterLab, without its side bar, once its kernel is ready."""
    page = chrome.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(30_000)
    page.goto(site.at(f"lab/tree/{name}?reset"))
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    )
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    return page


def command(page: Any, name: str, arguments: dict | None = None) -> None:
    page.evaluate("([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, arguments or {}])


def settled(page: Any) -> None:
    """Wait until what the kernel sent is drawn, and nothing moves."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
