#!/bin/sh
# usage: nvcc_logged.sh LOG COMMAND…: runs the compiler and keeps what ptxas says of each kernel (registers, spills); the rest is shown.
log=$1
shift
"$@" > "$log" 2>&1
code=$?
grep -v '^ptxas info\|bytes stack frame' "$log" >&2
exit $code
