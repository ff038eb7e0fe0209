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


# What no reader may see of a page: words that are cut off, what lies beyond the edge, controls that lie over each
# other, words that stand out too little. In the page of a notebook: below `.hang`.
FAULTS = """root => {
  const found = [], seen = one => one.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const name = one => `${one.tagName.toLowerCase()}.${one.className?.baseVal ?? one.className}`.trim() + ': '
    + (one.value || one.textContent || '').trim().slice(0, 60);
  const scrolls = one => { for (let n = one; n && n !== root; n = n.parentElement)
    if (/auto|scroll/.test(getComputedStyle(n).overflowX)) return true; return false; };
  const inView = one => { let {left, top, right, bottom} = one.getBoundingClientRect();  // of what a list scrolls
    for (let n = one.parentElement; n && n !== root; n = n.parentElement) {
      if (getComputedStyle(n).overflowY === 'visible') continue;
      const b = n.getBoundingClientRect();
      [left, top, right, bottom] = [Math.max(left, b.left), Math.max(top, b.top), Math.min(right, b.right),
        Math.min(bottom, b.bottom)]; }
    return {left, top, right, bottom}; };
  const edge = root.getBoundingClientRect();
  const parse = text => { const [r, g, b, a = 1] = (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
    return [r, g, b, a]; };
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(v => linear(v / 255)); return .2126 * r + .7152 * g + .0722 * b; };
  const over = (below, c) => below.map((v, i) => v * (1 - c[3]) + c[i] * c[3]);
  const contrast = one => { const layers = []; let solid = 1;
    for (let n = one; n; n = n.parentElement) { const c = parse(getComputedStyle(n).backgroundColor); layers.push(c);
      if (c[3] === 1) break; }
    for (let n = one; n && n !== root; n = n.parentElement) solid *= +getComputedStyle(n).opacity;
    const ground = layers.reverse().reduce(over, [255, 255, 255]), ink = parse(getComputedStyle(one).color);
    const [a, b] = [light(over(ground, [...ink.slice(0, 3), ink[3] * solid])), light(ground)].sort((x, y) => y - x);
    return (a + .05) / (b + .05); };
  for (const one of root.querySelectorAll('*')) {
    if (one.closest('svg, [aria-hidden=true]') || !seen(one)) continue;
    const style = getComputedStyle(one), box = one.getBoundingClientRect();
    const words = [...one.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || one.matches('input, select');
    if (!words || !box.width) continue;
    if (style.overflowX !== 'visible' && !scrolls(one) && one.scrollWidth > one.clientWidth + 1
      && !one.closest('[title]')) found.push('cut off ' + name(one));
    if ((box.right > edge.right + 1 || box.left < edge.left - 1) && !scrolls(one)) found.push('beyond ' + name(one));
    if (!one.closest('[disabled]') && one.textContent.trim() && contrast(one) < 4.5)
      found.push(`faint ${contrast(one).toFixed(2)} ` + name(one));
  }
  const controls = [...root.querySelectorAll('button, input, select, textarea, summary, a, [role=tab]')].filter(seen)
    .map(one => [one, inView(one)]).filter(([one, box]) => box.right > box.left && box.bottom > box.top);
  for (const [index, [one, a]] of controls.entries()) for (const [other, b] of controls.slice(index + 1))
    if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 && !one.contains(other) && !other.contains(one)
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2)
      found.push(`over each other ${name(one)} | ${name(other)}`);
  return found; }"""
AXE = ROOT / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"


def faults(page: Any, selector: str = ".hang", axe: bool = True) -> list[str]:
    """The faults of what is shown now, by the checks above, and by axe-core's where npm has brought it."""
    settled(page)
    found = page.locator(selector).first.evaluate(FAULTS)
    if axe and AXE.is_file():
        if not page.evaluate("() => 'axe' in window"):
            page.evaluate(AXE.read_text(encoding="utf-8"))
        rules = ["color-contrast", "button-name", "label", "image-alt", "svg-img-alt", "link-name", "aria-valid-attr"]
        run = "([where, rules]) => axe.run(where, {runOnly: rules, resultTypes: ['violations'], iframes: false})"
        for one in page.evaluate(run, [selector, rules])["violations"]:
            found += [f"axe {one['id']}: {node['html'][:160]}" for node in one["nodes"]]
    return found


def themed(page: Any, dark: bool) -> None:
    command(page, "apputils:change-theme", {"theme": "JupyterLab Dark" if dark else "JupyterLab Light"})
    page.wait_for_selector(f"body[data-jp-theme-light={'false' if dark else 'true'}]", state="attached")


def command(page: Any, name: str, arguments: dict | None = None) -> None:
    page.evaluate("([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, arguments or {}])


def settled(page: Any) -> None:
    """Wait until what the kernel sent is drawn, and nothing moves."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
