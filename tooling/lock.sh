#!/bin/sh
# Resolve requirements.in into requirements.lock, for Python 3.10 to 3.14 and every platform at once.
# uv comes from a throw-away environment. Pins that still fit stay; --upgrade takes the newest.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
${PYTHON:-python3} -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
cp requirements.lock "$scratch/requirements.lock"
"$scratch/venv/bin/python" -m uv pip compile requirements.in --quiet --universal --python-version 3.10 \
    --generate-hashes --no-emit-index-url --no-emit-find-links --no-strip-extras --no-header "$@" -o "$scratch/requirements.lock"
if grep -nE '://|--(index|extra-index|find-links)' "$scratch/requirements.lock"; then
    echo 'The lock would name an address; it was left as it is. Next: look at requirements.in' >&2
    exit 1
fi
mv "$scratch/requirements.lock" requirements.lock
echo "requirements.lock holds $(grep -c '==' requirements.lock) pins."
