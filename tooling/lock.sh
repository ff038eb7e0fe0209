#!/bin/sh
# Resolve the three parts of the requirements, for Python 3.10 to 3.14 and every platform at once. All are resolved
# together, so that they agree; then each lock gets what the parts before it do not have.
# uv comes from a throw-away environment. Pins that still fit stay; --upgrade takes the newest.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
${PYTHON:-python3} -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check uv

resolve() {
    "$scratch/venv/bin/python" -m uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
        --no-strip-extras --no-header --no-annotate "$@"
}

cat requirements.lock requirements-notebook.lock requirements-tests.lock >"$scratch/all" 2>/dev/null || true
resolve "$@" -o "$scratch/all" requirements.in requirements-notebook.in requirements-tests.in
resolve -c "$scratch/all" -o "$scratch/requirements" requirements.in
resolve -c "$scratch/all" -o "$scratch/requirements-notebook" requirements.in requirements-notebook.in
cp "$scratch/all" "$scratch/requirements-tests"
"$scratch/venv/bin/python" tooling/only_new.py "$scratch/requirements" "$scratch/requirements-notebook" "$scratch/requirements-tests"
for part in requirements requirements-notebook requirements-tests; do
    mv "$scratch/$part" "$part.lock"
    echo "$part.lock holds $(grep -c '==' "$part.lock") pins."
done
