#!/bin/sh
# Keep a bundle of a process that something is about to end. It never fails and never takes longer than HANG_SECONDS, so
# it delays a restart by that at most; it keeps the HANG_KEEP newest bundles, HANG_MEGABYTES in all.
#
#   sh keep_evidence.sh PID [FOLDER]        by `hang capture` if it is on PATH, or else by capture.sh, which lies beside
#                                           this file or on PATH
#   sh keep_evidence.sh journal [FOLDER]    from ExecStopPost: what the service wrote when its watchdog barked
#
# A process is not looked at twice within HANG_EVERY minutes: the first bundle of a hang is the one to keep.
set -u
what=${1:-} folder=${2:-${HANG_FOLDER:-/var/lib/hang-evidence}} here=$(dirname "$0")
seconds=${HANG_SECONDS:-5} keep=${HANG_KEEP:-10} megabytes=${HANG_MEGABYTES:-50} every=${HANG_EVERY:-1}
say() { echo "keep_evidence.sh: $*" >&2; }
umask 077
mkdir -p "$folder" 2>/dev/null || { say "$folder cannot be made. Nothing is kept."; exit 0; }

case $what in
journal)
    [ "${SERVICE_RESULT:-}" = watchdog ] || exit 0
    place=$folder/evidence-watchdog-$(date +%Y%m%dT%H%M%S).txt
    journalctl --quiet --output=cat "_SYSTEMD_INVOCATION_ID=${INVOCATION_ID:-}" 2>/dev/null | tail -n 2000 >"$place"
    [ -s "$place" ] || { say "nothing of it stands in the journal"; rm -f "$place"; } ;;
'' | 0* | *[!0-9]*) say "no process: '$what'. It has ended already, or its number was not given."; exit 0 ;;
*)
    recent=$(find "$folder" -name "evidence-$what-*" -mmin "-$every" | head -n 1)
    [ -z "$recent" ] || { say "$recent was kept less than $every minutes ago"; exit 0; }
    place=$folder/evidence-$what-$(date +%Y%m%dT%H%M%S)
    limit="timeout -k 1"  # a second to end in. Not the children: py-spy ends a look that it has begun
    timeout --foreground 1 true 2>/dev/null && limit="timeout --foreground -k 1"
    if command -v hang >/dev/null; then set -- hang capture --pid "$what" --out "$place"
    else
        program=$here/capture.sh; [ -e "$program" ] || program=$(command -v capture.sh) || program=
        [ -n "$program" ] || say "neither hang nor capture.sh is here"
        set -- sh "$program" "$what" "$place"
    fi
    $limit "$((seconds - 1))" "$@" >"$place.log" 2>&1 || say "$(tail -n 2 "$place.log" | tr '\n' ' ')"
    if [ -d "$place" ]; then tar -czf "$place.tar.gz" -C "$folder" "${place##*/}" && rm -r "$place"; fi
    rm -f "$place.log"
    [ ! -e "$place.tar.gz" ] || say "$place.tar.gz" ;;
esac

# Oldest first, of what this program has written and nothing else.
number=0 size=0
for one in $(ls -1t "$folder" | grep -E '^evidence-(watchdog|[0-9]+)-[0-9]{8}T[0-9]{6}(\.tar\.gz|\.txt)$'); do
    number=$((number + 1)) size=$((size + $(du -k "$folder/$one" | cut -f 1)))
    [ "$number" -le "$keep" ] && [ "$size" -le $((megabytes * 1024)) ] || rm -f "$folder/$one"
done
exit 0
