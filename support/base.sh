#!/bin/bash
# Decides which base makes the image, and prints "base reason" on one line. BASE=buildroot|prebuilt insists;
# BUILDROOT=DIR names a Buildroot tree. Downloads are tried only where a hash is pinned for them.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)

case ${BASE:-} in
prebuilt) echo "prebuilt BASE=prebuilt" ;;
'' | buildroot)
	if reason=$("$top/support/buildroot.sh" available); then
		echo "buildroot $reason"
	elif [ -n "${BASE:-}${BUILDROOT:-}" ]; then
		echo "error: a Buildroot base was asked for, but $reason" >&2
		exit 1
	else
		echo "prebuilt $reason"
	fi
	;;
*)
	echo "error: BASE=$BASE: there are the bases buildroot and prebuilt" >&2
	exit 1
	;;
esac
