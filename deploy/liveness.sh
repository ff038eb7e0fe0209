#!/bin/sh
# A liveness probe that keeps evidence where it fails, before whoever asked restarts the process.
#
#   sh liveness.sh URL PID [FOLDER]     exit status 0: it answers; 1: it does not, within 2 s
#
# Give the probe 8 seconds: 2 for the answer, 5 for the bundle. snippets/health.py has a route to ask.
set -u
if command -v curl >/dev/null; then curl -fsS -m 2 -o /dev/null "$1"
elif command -v wget >/dev/null; then wget -q -T 2 -O /dev/null "$1"
else python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=2)' "$1"; fi 2>/dev/null && exit 0
sh "$(dirname "$0")/keep_evidence.sh" "$2" ${3:+"$3"}
exit 1
