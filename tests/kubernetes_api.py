"""As much of Kubernetes' API as kubectl asks for: what there is, a list of pods, ephemeral containers that join one.

with cluster(pods) as (config, patches):     KUBECONFIG=config kubectl get pods
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

VERBS = ["create", "get", "list", "patch"]
KINDS = {
    "v1": {"pods": "Pod", "pods/ephemeralcontainers": "Pod", "pods/exec": "PodExecOptions"},
    "apps/v1": {"deployments": "Deployment"},
}
APPS = {"groupVersion": "apps/v1", "version": "v1"}
CONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:PORT"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
"""


@contextmanager
def cluster(folder: Path, *names: str) -> Iterator[tuple[Path, list[dict]]]:
    """Pods of these names that run; gives the configuration of kubectl, and what was asked to join them."""
    pods = {
        name: {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1"},
            "spec": {"containers": [{"name": "app", "image": "news:1.5"}]},
            "status": {"phase": "Running", "containerStatuses": []},
        }
        for name in names
    }
    joined: list[dict] = []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self):
            place = self.path.partition("?")[0].strip("/").split("/")
            if place == ["api"]:
                self.answer({"kind": "APIVersions", "versions": ["v1"]})
            elif place == ["apis"]:
                groups = [{"name": "apps", "versions": [APPS], "preferredVersion": APPS}]
                self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
            elif "/".join(place[1:]) in KINDS:
                version = "/".join(place[1:])
                known = [
                    {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": VERBS}
                    for name, kind in KINDS[version].items()
                ]
                self.answer({"kind": "APIResourceList", "groupVersion": version, "resources": known})
            elif place[-1] == "pods":
                self.answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(pods.values())})
            elif place[-1] in pods:
                self.answer(pods[place[-1]])
            else:  # exec is more than HTTP: nobody answers it here
                words = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
                self.answer(words, 404)

        do_POST = do_GET

        def do_PATCH(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            pod = pods[self.path.partition("?")[0].split("/")[-2]]
            new = body["spec"]["ephemeralContainers"]
            joined.extend(new)
            pod["spec"]["ephemeralContainers"] = new
            started = {"running": {"startedAt": "2026-11-28T03:00:00Z"}}
            pod["status"]["ephemeralContainerStatuses"] = [{"name": one["name"], "state": started} for one in new]
            self.answer(pod)

        def answer(self, body: dict, status: int = 200):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        config = folder / "kubeconfig"
        config.write_text(CONFIG.replace("PORT", str(server.server_port)))
        yield config, joined
        server.shutdown()
