#!/bin/sh
# Use when   a hung host has py-spy and nothing else: this saves what `hang.py diagnose` reads, in one file.
# Not when   Python with psutil is there: `hang.py capture` keeps the lines of your code and the tasks too.
# Costs      2 s a process, paused for milliseconds a sample. Run it before any restart, as the target's user
#            or as root. Linux; a POSIX sh. Of a command line it keeps what is served, no environment at all.
set -u; umask 077; stop() { echo "capture.sh: $1 Next: $2" >&2; exit 2; }
usage='usage: capture.sh PID [FOLDER]   (of a supervisor: its workers are looked at too)'
top=${1:-} folder=${2:-evidence-${1:-}-$(date +%Y%m%dT%H%M%S)}; packed=$folder.tar.gz
case $top in -h) echo "$usage"; exit 0 ;; ''|0*|*[!0-9]*) echo "$usage" >&2; exit 2 ;; esac
command -v py-spy >/dev/null || stop 'py-spy is not on PATH.' 'pip install py-spy, or copy its one file here'
grep -qs '^State:.[^Z]' "/proc/$top/status" || stop "Process $top is not running." 'ps -ef | grep python'
[ ! -e "$folder" ] || stop "$folder is there already." "sh '$0' $top ANOTHER_FOLDER"
mkdir -p "$folder" 2>/dev/null || stop "$folder cannot be made." "sh '$0' $top /tmp/evidence-$top"
trap 'echo "capture.sh: interrupted; what was read until now is in $folder" >&2; exit 130' INT TERM
quoted() { printf '"%s"' "$(tr -d '\000-\037' | sed 's/[\\"]/\\&/g')"; }  # as JSON
words() { tr '\n\000' ' \n' <"/proc/$1/cmdline" 2>/dev/null; }
shown() {  # shown PID MOST: its command line
    words "$1" | awk -v most="$2" -v safe=' -m --host --port --bind --workers --threads --loop --reload ' '
        NR > 1 { kept = index(safe, " "$0 " ") || index(safe, " " last " ") || $0 ~ /^[A-Za-z0-9_\/.-]+py$/ ||
                        last !~ /^-/ && $0 ~ /^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_.]+$/ }
        NR <= most { line = line (NR > 1 ? " " : "") (NR == 1 || kept ? $0 : "***"); last = $0 }
        END { print line }'; }
kernel() {  # kernel PID: what each thread waits in, one line a thread. Nothing is paused by it.
    read -r now _ </proc/uptime
    awk -v head="# at $now arch $(uname -m) hz $(getconf CLK_TCK 2>/dev/null || echo 100)" '
    function text(file,   line) { line = ""; getline line <file; close(file); return line "\t" }
    BEGIN { print head; for (i = 1; i < ARGC; i++) {
            task = ARGV[i]; stat = text(task "/stat"); if (stat == "\t") continue  # the thread has ended
            while ((getline line <(task "/status")) > 0) if (line ~ /^(non)?vol/) {
                forced = line; sub(/.*[ \t]/, "", forced); if (line ~ /^vol/) own = forced }
            close(task "/status"); sub(/.*\) /, "", stat); waits = text(task "/wchan") text(task "/syscall")
            sub(/.*\//, "", task); print task "\t" stat own "\t" forced "\t" waits } }' "/proc/$1/task/"*; }
one() {  # one PID SUPERVISOR: its folder; the kernel speaks first, for attaching can end a wait
    p=/proc/$1 place=$folder/$1 server=null status=sleeping; mkdir -p "$place"
    case $(grep ^State "$p/status") in *stopped*) status=stopped ;; *tracing*) status=tracing-stop ;; esac
    for name in fastapi waitress celery daphne granian hypercorn uvicorn gunicorn; do
        case $(words "$1"; words "$top") in *"$name"*) server="\"$name\"" ;; esac; done
    for fd in "$p/fd/"*; do printf '%s\t%s\n' "${fd##*/}" "$(readlink "$fd")"; done >"$place/fds.tsv"
    own=" $(sed -n 's/.*socket:\[\([0-9]*\)\]$/\1/p' "$place/fds.tsv" | tr '\n' ' ')"
    cat "$p/net/tcp" "$p/net/tcp6" 2>/dev/null | awk -v own="$own" '
        { line[NR] = $0; port[NR] = $2; sub(/.*:/, "", port[NR]); has[NR] = index(own, " " $10 " ") }
        has[NR] && $4 == "0A" { listens[port[NR]] = 1 }
        END { for (i = 1; i <= NR; i++) if (has[i] || port[i] in listens) print line[i] }' >"$place/net.txt"
    for child in $(cat "$p/task/"*/children 2>&-); do printf '%s\t%s\t%s\n' "$child" "$(shown "$child" 3)" \
        "$(ls -l /proc/$child/fd 2>&- | sed -n 's/.*pipe://p' | tr '\n[]' '   ')"; done >"$place/children.tsv"
    {   sed 's/^/range /' /proc/sys/net/ipv4/ip_local_port_range  # for: does it listen, does it still serve?
        awk '$4 == "0A" { sub(/.*:/, "", $2); print "listened", $2 }' "$p/net/tcp" "$p/net/tcp6"
        awk '$4 == "00010000" { print "unix", $7 }' "$p/net/unix"
        for fd in $(sed -n 's/[^0-9]*anon_inode:\[eventpoll\]$//p' "$place/fds.tsv"); do
            sed -n "s/^tfd: *\([0-9]*\).*/epoll $fd \1/p" "$p/fdinfo/$fd"; done; } 2>&- >"$place/sockets.txt"
    version=$(readlink "$p/exe" | sed -n 's/.*python\(3\.[0-9]*\).*/, "python": "\1"/p')
    echo "{\"pid\": $1, \"command\": $(shown "$1" 6 | quoted), \"cwd\": $(readlink "$p/cwd" | quoted),
 \"status\": \"$status\", \"server\": $server, \"supervisor_pid\": $2$version}" >"$place/process.json"
    for n in 0 1 2 3; do kernel "$1" >"$place/kernel-before-$n.tsv"; sleep 0.1 || sleep 1; done 2>/dev/null
    for at in $(sed -nE 's/^(202|98) 0x([^ ]+) 0x([^ ]*[0-7])?. .*/\2/p' $p/task/*/syscall 2>&- | sort -u); do
        file=$(awk -v at="$at" 'function w(t) { return sprintf("%16s", t) } { split($1, e, "-") }
            w(e[1]) <= w(at) && w(at) < w(e[2]) && $5 { print $4, $5 }' "$p/maps"); [ -n "$file" ] || continue
        printf '%d\t%s\n' "0x$at" "$(grep -ls " $file " /proc/[0-9]*/maps | awk -v own="$1" -F/ '
     $3 != own { n = n " " $3 } END { print (n ? "" : "no other ") "process" n }')"; done >"$place/shared.tsv"
    how=; [ "$(grep -LE '	D |	request_wait' "$place/"*-before-*)" ] || how=--nonblocking
    for index in 0 1 2; do case $status in *stop*) return ;; esac  # py-spy would wait for both
        kernel "$1" >"$place/kernel-$index.tsv"
        py-spy dump --json $how --pid "$1" >"$place/sample" 2>"$place/py-spy.log" || break
        mv "$place/sample" "$place/sample-$index.json"; sleep 0.3 2>/dev/null || sleep 1; done
    [ -e "$place/sample-0.json" ] || echo "py-spy cannot read $1: $(head -n 1 "$place/py-spy.log")" >&2; }
echo "{\"format\": \"backend-hang-debug evidence\", \"version\": 1, \"tool\": \"capture.sh\", \"notes\":
 [\"capture.sh keeps no asyncio tasks, and no lines of code: those come from diagnose --code DIR\"],
 \"py_spy\": \"$(py-spy --version | cut -d ' ' -f 2)\", \"taken\": \"$(date -u +%Y-%m-%dT%H:%M:%S+00:00)\",
 \"platform\": $(uname -srm | quoted)}" >"$folder/manifest.json"
one "$top" null; case $status$(ls "$place") in *stop*|*sample-0*) ;;
    *) stop 'It may need root.' "sudo env PATH=\"\$PATH\" sh '$0' $top   # your decision" ;; esac
loops=$(grep -Es '_run_once|run_until_complete' "$place/sample-0.json") held=' 0x[^ ]*[89a-f]. 0x[^ ]* 0x0 '
for child in $(cut -f 1 "$place/children.tsv"); do  # of a loop's own, only what is stuck for good
    set -- "/proc/$child/task/"*  # that is: its only thread waits for a lock of its own, without a timeout
    [ -z "$loops" ] || { [ $# = 1 ] && grep -Eqs "^(202|98) 0x[^ ]*$held" "$1/syscall"; } || continue
    case $(readlink "/proc/$child/exe"):$(words "$child") in
        *_tracker*|*.forkserver*) ;; *python*:*|*pypy*:*) one "$child" "$top" ;; esac
done
at=$(dirname "$folder"); tar -czf "$packed" -C "$at" "$(basename "$folder")" || packed=$folder; echo "$packed"
[ ! "${SUDO_UID:+$(find "$at" -prune -user "$SUDO_UID" 2>&-)}" ] || chown -hR $SUDO_UID "$folder" "$packed"
