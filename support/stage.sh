# shellcheck shell=bash
# Stages of a build: a numbered line with the time each took, its output in a log of its own, and a stamp that
# lets a stage be skipped while its inputs are the same. Sourced; needs BUILD_DIR.
#
#   stage_total 3
#   stage "root filesystem" KEY OUTPUT... -- COMMAND ARG...
#
# KEY is any text that changes when the inputs do (`inputs_key`); an empty KEY means: run every time.
# The stage also runs when one of OUTPUT... is missing.

STAGE_NUMBER=${STAGE_NUMBER:-0}
STAGE_TOTAL=${STAGE_TOTAL:-0}

stage_total() { STAGE_TOTAL=$1; STAGE_NUMBER=0; }

# Prints one hash over the named files and folders (content, mode, link targets) and over literal words `=text`.
inputs_key() {
	local input
	{
		for input in "$@"; do
			case $input in
			=*) printf '%s\n' "$input" ;;
			*)
				if [ -d "$input" ]; then
					find "$input" \( -type f -o -type l \) -printf '%P %m %l\n' | LC_ALL=C sort
					find "$input" -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum | cut -c1-64
				else
					stat -c %a "$input"
					sha256sum <"$input"
				fi
				;;
			esac
		done
	} | sha256sum | cut -c1-64
}

# The key a finished stage was stamped with; later stages put it among their own inputs.
stage_key() { cat "$BUILD_DIR/stamps/$(stage_slug "$1")"; }

stage_slug() { printf '%s' "$1" | tr -cs 'A-Za-z0-9' '-'; }

stage() {
	local name=$1 key=$2 outputs=() started slug log stamp rc=0
	shift 2
	while [ "$1" != -- ]; do outputs+=("$1"); shift; done
	shift
	STAGE_NUMBER=$((STAGE_NUMBER + 1))
	slug=$(stage_slug "$name")
	mkdir -p "$BUILD_DIR/logs" "$BUILD_DIR/stamps"
	log=$BUILD_DIR/logs/$slug.log
	stamp=$BUILD_DIR/stamps/$slug
	stage_label="$(printf '>>> [%d/%d] %s ...' "$STAGE_NUMBER" "$STAGE_TOTAL" "$name")"
	printf '%s' "$stage_label"
	if [ -n "$key" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && stage_outputs_exist "${outputs[@]}"; then
		printf ' up to date\n'
		return 0
	fi
	rm -f "$stamp"
	started=${EPOCHREALTIME/,/.}
	# `set -e` does not reach into a function called from a condition, so the command runs in a subshell of its own.
	( set -euo pipefail; "$@" ) >"$log" 2>&1 </dev/null &
	stage_watch $! "$started" "$log" || rc=$?
	if [ $rc -ne 0 ]; then
		printf ' failed\n'
		stage_failure "$name" "$log" $rc
		return $rc
	fi
	printf ' %s s\n' "$(stage_seconds "$started")"
	grep '^note: ' "$log" || true
	[ -z "$key" ] || printf '%s\n' "$key" >"$stamp"
}

stage_outputs_exist() {
	local output
	for output in "$@"; do [ -e "$output" ] || return 1; done
}

# Not by date(1), in whose place Buildroot's reproducible builds have one that always says the same.
stage_seconds() { awk -v a="$1" -v b="${EPOCHREALTIME/,/.}" 'BEGIN { printf "%.1f", b - a }'; }

# On a terminal the line shows the time so far and the last line of the log; elsewhere it just waits.
stage_watch() {
	local pid=$1 started=$2 log=$3 rc=0 last
	if [ -t 1 ]; then
		while kill -0 "$pid" 2>/dev/null; do
			last=$(tail -n 1 "$log" 2>/dev/null | tr -d '\000-\037' | cut -c1-60)
			printf '\r\033[K%s %s s  %s' "$stage_label" "$(stage_seconds "$started")" "$last"
			sleep 0.5
		done
		printf '\r\033[K%s' "$stage_label"
	fi
	wait "$pid" || rc=$?
	return $rc
}

stage_failure() {
	{
		printf 'The stage "%s" failed with exit status %d. The end of %s:\n' "$1" "$3" "$2"
		tail -n 25 "$2" | sed 's/^/    /'
	} >&2
}
