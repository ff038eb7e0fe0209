"""A program that asks before it serves, on an input that nobody writes to: it names no server of its own."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import click

SERVER = "script"
READY = True
STATE = "startup-hang"
CAUSE = "stdin"

ours, theirs = os.pipe()  # what a service manager may give: it stays open, and nothing comes
os.dup2(ours, 0)


def prepare():
    if click.confirm("Clear the cache?"):  # <-- stdin
        print("cleared")


if __name__ == "__main__":
    print("READY", flush=True)
    prepare()
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.serve_forever()
