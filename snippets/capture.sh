#!/bin/sh
# Use when   a hung host has py-spy and nothing else: this saves what `hang.py diagnose FOLDER` reads.
# Not when   Python with psutil is there: `hang.py capture` keeps the lines of your code and the tasks too.
# Costs      2 s; the target is paused for some milliseconds a sample. Run it before any restart, as the
#            target's user or as root. Linux; a POSIX sh (dash, bash, busybox). Source lines: --code DIR.
set -u
usage() { echo "usage: capture.sh PID [FOLDER]   (of a supervisor, the pid of a worker: pgrep -P PID)"; }

pid=${1:-}
case $pid in -h) usage; exit 0 ;; ''|0*|*[!0-9]*) usage >&2; exit 2 ;; esac
folder=${2:-evidence-$pid-$(date +%Y%m%dT%H%M%S)}
place=$folder/$pid
tab=$(printf '\t')
stop() { echo "capture.sh: $1 Next: $2" >&2; exit 2; }
command -v py-spy >/dev/null || stop 'py-spy is not on PATH.' 'pip install py-spy, or copy its one file here'
[ -d "/proc/$pid/task" ] || stop "Process $pid is not running." 'ps -ef | grep python'
[ ! -e "$folder" ] || stop "$folder is there already." "capture.sh $pid ANOTHER_FOLDER"
mkdir -p "$place" || exit 2

quoted() { printf '"%s"' "$(tr -d '\000-\037' | sed 's/[\\"]/\\&/g')"; }  # as JSON

counter() { sed -n "s/^$2:[[:space:]]*//p" "$1/status" 2>/dev/null; }

kernel() {  # kernel FILE: what each thread waits in, one line a thread. Nothing is paused by it.
    read -r now _ </proc/uptime
    echo "# at $now arch $(uname -m) hz $(getconf CLK_TCK 2>/dev/null || echo 100)"
    for task in "/proc/$pid/task/"*; do
        stat=$(cat "$task/stat" 2>/dev/null) || continue  # the thread has ended
        call=$(cat "$task/syscall" 2>/dev/null)
        echo "${task##*/}$tab${stat##*) }$tab$(counter "$task" voluntary_ctxt_switches)$tab$(
            counter "$task" nonvoluntary_ctxt_switches)$tab$(cat "$task/wchan" 2>/dev/null)$tab$call$tab"
    done
}

state=$(counter "/proc/$pid" State)
case $state in T*) status=stopped ;; t*) status=tracing-stop ;; *) status=sleeping ;; esac
command=$(tr '\000' ' ' <"/proc/$pid/cmdline" | cut -d ' ' -f 1-6 | quoted)
server=null
for name in granian daphne hypercorn waitress celery uvicorn gunicorn; do
    case $command in *"$name"*) server="\"$name\"" ;; esac
done
cat >"$folder/manifest.json" <<END
{"format": "backend-hang-debug evidence", "version": 1, "tool": "capture.sh",
 "taken": "$(date -u +%Y-%m-%dT%H:%M:%S+00:00)", "py_spy": "$(py-spy --version | cut -d ' ' -f 2)",
 "platform": $(uname -srm | quoted), "notes": []}
END

for fd in "/proc/$pid/fd/"*; do echo "${fd##*/}$tab$(readlink "$fd")"; done >"$place/fds.tsv"
inodes=$(sed -n 's/.*socket:\[\([0-9]*\)\]$/\1/p' "$place/fds.tsv" | tr '\n' ' ')
cat "/proc/$pid/net/tcp" "/proc/$pid/net/tcp6" 2>/dev/null | awk -v own="$inodes" '
    BEGIN { split(own, list, " "); for (i in list) mine[list[i]] = 1 }
    { line[NR] = $0; port[NR] = $2; sub(/.*:/, "", port[NR]); has[NR] = ($10 in mine); row[NR] = $4 }
    has[NR] && $4 == "0A" { listens[port[NR]] = 1 }
    END { for (i = 1; i <= NR; i++) if (has[i] || port[i] in listens) print line[i] }' >"$place/net.txt"
for child in $(cat "/proc/$pid/task/"*/children 2>/dev/null); do
    echo "$child$tab$(tr '\000' ' ' <"/proc/$child/cmdline" 2>/dev/null | cut -d ' ' -f 1-3)"
done >"$place/children.tsv"
ports='' listens=false
for port in $(awk '$4 == "0A" { sub(/.*:/, "", $2); print $2 }' "$place/net.txt" | sort -u); do
    listens=true ports="$ports${ports:+, }$(printf %d "0x$port")"
done
cat >"$place/process.json" <<END
{"pid": $pid, "command": $command, "cwd": $(readlink "/proc/$pid/cwd" | quoted), "status": "$status",
 "listening": [$ports], "listens": $listens, "server": $server}
END

for index in 0 1 2 3; do kernel >"$place/kernel-before-$index.tsv"; sleep 0.1 2>/dev/null || sleep 1; done
for index in 0 1 2; do
    case $status in stopped|tracing-stop) break ;; esac  # py-spy would wait for it
    kernel >"$place/kernel-$index.tsv"
    if ! py-spy dump --pid "$pid" >"$place/sample-$index.txt" 2>"$folder/py-spy.log"; then
        [ "$index" -eq 0 ] || break
        stop "py-spy cannot read $pid: $(head -n 1 "$folder/py-spy.log")" "sudo sh $0 $pid   # your decision"
    fi
    sleep 0.3 2>/dev/null || sleep 1
done
echo "$folder"
