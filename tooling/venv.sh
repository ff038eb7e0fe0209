#!/bin/sh
# Make .venv from requirements.lock, again only when the lock or the place has changed.
#
# The stamp is written last: an install that was interrupted has none, and is made anew. A virtual environment
# holds its own path, so one that was moved is made anew too. PYTHON=python3.12 make ... chooses the Python.
set -eu
cd "$(dirname "$0")/.."
stamp=.venv/made-from

fail() { printf '%s\n' "$*" >&2; exit 1; }

wanted() { pwd; cat requirements.lock; }

# A link is an environment of somebody's own: used as it is, never rebuilt through the link.
if [ -L .venv ] && [ -x .venv/bin/python ]; then exit 0; fi
if [ -L .venv ]; then fail '.venv is a link that leads nowhere. Next: rm .venv'; fi
if [ -x .venv/bin/python ] && wanted | cmp -s - "$stamp" 2>/dev/null && .venv/bin/python -c '' 2>/dev/null; then exit 0; fi

recent='import sys; sys.exit(sys.version_info < (3, 10))'
python=''
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$recent" 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    found=$(${PYTHON:-python3} --version 2>&1) || found='no Python'
    fail "Python 3.10 or newer is needed; here is ${found}. Next: sudo apt-get install python3 python3-venv   # or PYTHON=/path/to/python3.12 make triage"
fi
number=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "Python $number has no venv module. Next: sudo apt-get install python3-venv   # for another Python than the system's: python$number-venv"

echo "Making .venv with Python $number from requirements.lock: once, a minute or two." >&2
rm -rf .venv
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM
"$python" -m venv .venv >"$log" 2>&1 || {
    tail -n 5 "$log" >&2
    fail "The virtual environment could not be made. Next: sudo apt-get install python3-venv   # and see that the disk is not full"
}
.venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check --retries 2 \
    --require-hashes -r requirements.lock 2>"$log" || {
    tail -n 5 "$log" >&2
    if grep -qiE 'connection|resolution|network|timed out|proxy|ssl' "$log"; then
        fail 'The package index cannot be reached. Next: mend the network or its proxy settings, then run make again'
    fi
    fail 'pip could not install requirements.lock; its last lines stand above. Next: rm -rf .venv, then run make again'
}
wanted >"$stamp"
