#!/bin/sh
# Make .venv from the locks, again only when one of them or the place has changed: `venv.sh [notebook|tests]`.
#
# The demo needs requirements.lock; the notebook adds its own, and the tests add theirs to both. What is there is kept,
# and only what is missing is added. The stamp is written last: an install that was interrupted has none, and is made
# anew. A virtual environment holds its own path, so one that was moved is made anew too.
# PYTHON=python3.12 make ... chooses the Python.
set -eu
cd "$(dirname "$0")/.."
stamp=.venv/made-from
demo='requirements.lock'
notebook="$demo requirements-notebook.lock"
tests="$notebook requirements-tests.lock"
case ${1:-demo} in
    demo) locks=$demo ;;
    notebook) locks=$notebook ;;
    tests) locks=$tests ;;
    *) echo "venv.sh: $1 is no part of the requirements. Next: sh tooling/venv.sh notebook   # or tests" >&2; exit 2 ;;
esac

fail() { printf '%s\n' "$*" >&2; exit 1; }

made_from() { { pwd; cat "$@"; } | cmp -s - "$stamp" 2>/dev/null; }

# A link is an environment of somebody's own: used as it is, never rebuilt through the link.
if [ -L .venv ] && [ -x .venv/bin/python ]; then exit 0; fi
if [ -L .venv ]; then fail '.venv is a link that leads nowhere. Next: rm .venv'; fi
missing=all
if [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null; then
    # shellcheck disable=SC2086  # the names of the locks are words without spaces
    if made_from $tests; then exit 0; fi
    if made_from $notebook; then [ "$locks" = "$tests" ] || exit 0; missing=some; fi
    if made_from $demo; then [ "$locks" != "$demo" ] || exit 0; missing=some; fi
fi

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

make_anew() {
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

    echo "Making .venv with Python $number from $locks: once, a minute or less." >&2
    rm -rf .venv
    "$python" -m venv .venv >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        fail "The virtual environment could not be made. Next: sudo apt-get install python3-venv   # and see that the disk is not full"
    }
}

if [ "$missing" = all ]; then make_anew; else echo "Adding to .venv what $locks have more: once." >&2; fi
rm -f "$stamp"
set --
for lock in $locks; do set -- "$@" -r "$lock"; done
.venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check --retries 2 \
    --require-hashes "$@" 2>"$log" || {
    tail -n 5 "$log" >&2
    if grep -qiE 'connection|resolution|network|timed out|proxy|ssl' "$log"; then
        fail 'The package index cannot be reached. Next: mend the network or its proxy settings, then run make again'
    fi
    fail "pip could not install $locks; its last lines stand above. Next: rm -rf .venv, then run make again"
}
# shellcheck disable=SC2086
{ pwd; cat $locks; } >"$stamp"
