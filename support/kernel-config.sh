#!/bin/bash
# kernel-config.sh CONFIG FRAGMENT...: says which options of the fragments the kernel's configuration CONFIG does not
# have as they are there; exit status 1 if any. Kconfig drops an option in silence when what it depends on is missing.
set -euo pipefail
config=$1
shift
[ -e "$config" ] || { echo "error: there is no kernel configuration $config" >&2; exit 2; }

awk -v config="$config" '
	function option(line) { sub(/^# /, "", line); sub(/[= ].*/, "", line); return line }
	# A line that is a comment in both spellings: "CONFIG_X=value", "# CONFIG_X is not set".
	!/^CONFIG_[A-Za-z0-9_]+=/ && !/^# CONFIG_[A-Za-z0-9_]+ is not set$/ { next }
	FILENAME == config { have[option($0)] = $0; next }
	{
		name = option($0)
		# Of two fragments the later holds, as it does for the kernel.
		if (!(name in want)) order[++count] = name
		want[name] = $0
		from[name] = FILENAME
	}
	END {
		for (i = 1; i <= count; i++) {
			name = order[i]
			if (want[name] == have[name]) continue
			if (want[name] ~ /^#/ && !(name in have)) continue
			printf "error: %s wants %s, but the kernel has %s\n", from[name], want[name], \
				(name in have) ? have[name] : "no such option, or not what it depends on" > "/dev/stderr"
			wrong++
		}
		if (wrong) exit 1
		printf "%d kernel options are as the fragments have them\n", count
	}
' "$config" "$@"
