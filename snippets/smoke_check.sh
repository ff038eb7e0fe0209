#!/bin/sh
# Use when   a backend hung and was repaired: see in seconds whether it survives clients that leave.
# Not when   you need percentiles or many streams at once: `python scripts/hang.py verify` has both.
# Costs      a few seconds; a server that hangs is left hung. Needs curl and a POSIX sh (dash, bash, busybox).
set -u
export no_proxy="localhost,127.0.0.1,${no_proxy:-}"

usage() {
    cat <<'END'
usage: smoke_check.sh -c CONTROL_URL [-u URL] [-s STREAM_URL] [-n ABORTS] [-d SECONDS]
  -c  a trivial URL that must always answer, such as http://127.0.0.1:8000/health
  -u  the URL that hung
  -s  a stream: it is opened and cut off ABORTS times (5); the URLs are probed meanwhile and after
  -d  the deadline of each probe in seconds (2)
Exit status: 0 every probe was answered below 500 in time, 1 one was not, 2 wrong usage or no curl.
END
}

control='' hung='' stream='' aborts=5 deadline=2 missed=0 reader=''
while getopts c:u:s:n:d:h option; do
    case $option in
        c) control=$OPTARG ;;
        u) hung=$OPTARG ;;
        s) stream=$OPTARG ;;
        n) aborts=$OPTARG ;;
        d) deadline=$OPTARG ;;
        h) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
case $aborts in ''|0*|*[!0-9]*) control='' ;; esac
case $deadline in *[!0-9.]*) control='' ;; *[1-9]*) ;; *) control='' ;; esac
if [ -z "$control" ]; then usage >&2; exit 2; fi
if ! command -v curl >/dev/null; then echo 'curl is missing: sudo apt-get install curl' >&2; exit 2; fi

folder=$(mktemp -d) || exit 2
trap 'kill $reader 2>/dev/null; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
mkfifo "$folder/events" || exit 2

miss() { echo "MISS  $*"; missed=$((missed + 1)); }

probe() {  # probe PHASE: ask each URL once
    for url in "$control" ${hung:+"$hung"}; do
        answer=$(curl -q -sS -g -o /dev/null -w '%{http_code} %{time_total}' \
            --max-time "$deadline" --url "$url" 2>/dev/null)
        if [ $? -eq 0 ] && [ "${answer%% *}" -lt 500 ]; then
            echo "ok    $1  $answer s  $url"
        else
            miss "$1  $answer s  $url"
        fi
    done
}

probe 'baseline'
while [ -n "$stream" ] && [ "$aborts" -gt 0 ] && [ "$missed" -eq 0 ]; do
    curl -q -sS -f -g -N --max-time 10 --url "$stream" >"$folder/events" 2>/dev/null &
    reader=$!
    exec 3<"$folder/events"
    first=$(dd bs=1 count=1 <&3 2>/dev/null | wc -c)
    [ "$first" -eq 1 ] || miss "no first byte from $stream"
    probe 'while streaming'
    kill "$reader" 2>/dev/null  # the client goes away
    wait "$reader" 2>/dev/null
    [ $? -gt 128 ] || [ "$first" -eq 0 ] || miss "$stream ended by itself: is it a stream?"
    exec 3<&-
    reader=''
    probe 'after an abort'
    aborts=$((aborts - 1))
done
if [ -n "$stream" ] && [ "$missed" -eq 0 ]; then
    sleep 1  # a hang may set in late
    probe 'at the end'
fi

if [ "$missed" -gt 0 ]; then echo "FAILED: $missed missed"; exit 1; fi
echo 'PASSED'
