#!/bin/bash
# progress.sh COMMAND [ARGUMENT...]: run a command and show its progress instead of its output: the seconds and the last line of the
# output on a terminal, a line every fifteen seconds elsewhere. When the command fails, all of its output is shown.
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" </dev/null >"$log" 2>&1 &
command=$!
trap 'kill "$command" 2>/dev/null; wait "$command"; [ ! -t 1 ] || printf "\r\033[K"; exit 130' INT TERM
seconds=0
while kill -0 "$command" 2>/dev/null; do
	last=$(tail -c 400 "$log" | tr '\r\t' '\n ' | grep -av '^ *$' | tail -n 1 | tr -cd '[:print:]')
	if [ -t 1 ]; then
		columns=$(tput cols 2>/dev/null || echo 80)
		printf '\r\033[K%s' "$(printf '  %d s  %s' "$seconds" "$last" | cut -c "1-$((columns - 1))")"
	elif [ $((seconds % 15)) = 14 ]; then
		printf '  %d s  %s\n' "$((seconds + 1))" "$last" | cut -c 1-120
	fi
	sleep 1 &
	wait -n "$command" $! 2>/dev/null
	seconds=$((seconds + 1))
done
wait "$command"
status=$?
[ ! -t 1 ] || printf '\r\033[K'
[ "$status" = 0 ] || cat "$log" >&2
exit "$status"
