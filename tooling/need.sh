#!/bin/sh
# need.sh PROGRAM...: one line for the first one that is missing, with the command that installs it.
for program do
    command -v "$program" >/dev/null 2>&1 && continue
    echo "$program is not installed. Next: sudo apt-get install $program   # or your system's package of that name" >&2
    exit 1
done
