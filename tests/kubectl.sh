#!/bin/sh
# Stands for kubectl, as far as `fleet` uses it: exit statuses, words on stderr and partial output are those of the real
# one (kubectl 1.32). $FLEET is a folder with a file pods.json, and for each pod a folder that stands for its /tmp.
# What a pod does is the word in its file `does`. Each call is a line in $FLEET/calls.
echo "$*" >>"$FLEET/calls"
while case ${1:-} in --context|--namespace) true ;; *) false ;; esac; do shift 2; done
verb=$1; shift
gone() { echo "Error from server (NotFound): pods \"$1\" not found" >&2; exit 1; }
case $verb in
get)
    case $1 in pods) cat "$FLEET/pods.json"; exit 0 ;; esac
    [ -d "$FLEET/$2" ] || gone "$2"
    case $(cat "$FLEET/$2/does") in
        pulls) ;;  # the image never comes
        *) grep -qs . "$FLEET/$2/joined" && echo 2026-11-28T03:00:00Z ;;
    esac
    exit 0 ;;
debug)
    [ -d "$FLEET/$1" ] || gone "$1"
    case $(cat "$FLEET/$1/does") in
        forbids) echo "Error from server (Forbidden): pods \"$1\" is forbidden: violates PodSecurity \"baseline:latest\"" >&2
            exit 1 ;;
    esac
    echo joined >"$FLEET/$1/joined"; exit 0 ;;
esac
[ "$1" != --stdin ] || shift
pod=$1; shift 4  # POD --container NAME --
[ -d "$FLEET/$pod" ] || gone "$pod"
does=$(cat "$FLEET/$pod/does")
case $does:$3 in
    leaves:*'cat "$1"'*)  # its bundle is half here when it goes
        head -c 700 "$FLEET/$pod/tmp.tar.gz"; rm -r "$FLEET/$pod"
        echo "error: error reading from error stream: unexpected EOF" >&2; exit 1 ;;
    cut:*'cat "$1"'*)  # the stream ends early, once, and nobody says so
        echo well >"$FLEET/$pod/does"; head -c 700 "$FLEET/$pod/tmp.tar.gz"; exit 0 ;;
    *:*'cat "$1"'*) cat "$FLEET/$pod/tmp.tar.gz"; exit 0 ;;
    bare:*)
        cat >/dev/null; echo "capture.sh: py-spy is not on PATH. Next: pip install py-spy" >&2
        echo "command terminated with exit code 2" >&2; exit 2 ;;
    crashes:*) cat >/dev/null; echo "command terminated with exit code 137" >&2; exit 137 ;;
    slow:*) exec sleep 20 ;;
esac
case $(head -n 2) in *'Use when'*) ;; *) exit 9 ;; esac  # capture.sh comes through standard input
