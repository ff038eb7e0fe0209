"""Apache's mod_wsgi calls the application in a process of its own, in an interpreter beside the main one.

Its two threads wait for a peer without a timeout. Apache's own processes could run Python too, and serve nothing here.
"""

import os
import socket
import tempfile

SERVER = "script"
STATE = "sync-worker-blocked"
CAUSE = "socket"
TRIGGER = ("/hang",)
COUNT = 3
SYMPTOM = "/health"
NEEDS = "apache2"

MODULES = "/usr/lib/apache2/modules"
CONFIGURATION = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/httpd.pid
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
User {user}
Group {group}
WSGISocketPrefix {folder}/wsgi
WSGIDaemonProcess shop processes=1 threads=2
WSGIProcessGroup shop
WSGIScriptAlias / {file}
<Directory />
Require all granted
</Directory>
"""

quiet = socket.socket()
quiet.bind(("127.0.0.1", 0))
quiet.listen(100)


def ask_for_stock():
    with socket.create_connection(quiet.getsockname()) as peer:
        return peer.recv(100)  # <-- socket


def application(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        ask_for_stock()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = os.geteuid() == 0  # Apache serves as no user of such power
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    os.chmod(os.path.dirname(folder), 0o755)
    names = {"user": "www-data" if root else os.getlogin(), "group": "www-data" if root else str(os.getgid())}
    with open(f"{folder}/httpd.conf", "w", encoding="utf-8") as written:
        written.write(CONFIGURATION.format(folder=folder, port=port, modules=MODULES, file=__file__, **names))
    print(f"Serving on http://127.0.0.1:{port}", flush=True)
    os.execvp("apache2", ["apache2", "-d", folder, "-f", f"{folder}/httpd.conf", "-DFOREGROUND"])
