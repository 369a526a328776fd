# shellcheck shell=bash
# c_compiler TARGET: tells cargo which C compiler to take for the Rust target TARGET. One dependency has C in it: ring, the
# arithmetic under TLS. It calls no C library, so that the machine's own compiler does for static programs too, and
# Debian's cross compiler for those of another architecture.
c_compiler() {
	local target=$1 compiler=cc
	if [ "${target%%-*}" != "$(uname -m)" ]; then
		compiler=${target%%-*}-linux-gnu-gcc
	fi
	export "CC_${target//-/_}=$compiler"
}
