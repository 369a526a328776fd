#!/bin/bash
# toolchain.sh ARCH FOLDER: makes of this machine's Debian compiler packages what Buildroot calls a custom, pre-installed
# external toolchain, C only. apt downloads the packages and checks them against the archive's signature.
#
# Debian keeps libraries in folders named for the architecture and has no sysroot; here FOLDER/sysroot has run-time
# objects in lib/, what is needed to link in usr/lib/ and headers in usr/include/, and wrappers in FOLDER/bin pass it.
# FOLDER/facts says which compiler and kernel headers they are, in Buildroot's spelling.
set -euo pipefail
arch=$1 out=$2
new=$out.new
raw=$new/raw sysroot=$new/sysroot
prefix=$arch-aios-linux-gnu
binutils_tools=(addr2line ar as c++filt elfedit gprof ld ld.bfd ld.gold nm objcopy objdump ranlib readelf size strings strip)

fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

case $arch in
x86_64) triplet=x86_64-linux-gnu loader=ld-linux-x86-64.so.2 ;;
aarch64) triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 ;;
*) fail "no Debian toolchain is known for '$arch'" ;;
esac
gcc_version=$(apt-cache depends gcc | sed -n 's/.*Depends: gcc-\([0-9]*\)$/\1/p' | head -n 1)
[ -n "$gcc_version" ] || fail "apt knows no package gcc here: run apt-get update"

# The compiler for another architecture is a set of packages of its own, whose names say so.
package_names() {
	local v=$gcc_version suffix
	if [ "$(uname -m)" = "$arch" ]; then
		echo "gcc-$v cpp-$v libgcc-$v-dev binutils-${triplet//_/-} libc6 libc6-dev linux-libc-dev libgcc-s1 libatomic1 libgomp1"
		# Later releases keep the compiler proper in packages with the architecture in their names.
		[ -z "$(apt-cache madison "gcc-$v-${triplet//_/-}")" ] || echo "gcc-$v-${triplet//_/-} cpp-$v-${triplet//_/-}"
		return 0
	fi
	suffix=$([ "$arch" = aarch64 ] && echo arm64-cross || echo amd64-cross)
	echo "gcc-$v-${triplet//_/-} cpp-$v-${triplet//_/-} binutils-${triplet//_/-} libgcc-$v-dev-$suffix libc6-$suffix"
	echo "libc6-dev-$suffix linux-libc-dev-$suffix libgcc-s1-$suffix libatomic1-$suffix libgomp1-$suffix"
}

unpack() {
	local packages deb
	read -r -d '' -a packages < <(package_names && printf '\0')
	mkdir -p "$new/debs" "$raw"
	(cd "$new/debs" && apt-get -q -o APT::Sandbox::User= download "${packages[@]}" >apt.log 2>&1) || {
		cat "$new/debs/apt.log" >&2
		fail "apt cannot download the compiler packages (${packages[*]}); run apt-get update and try again"
	}
	for deb in "$new"/debs/*.deb; do dpkg-deb -x "$deb" "$raw"; done
	headers=$(dpkg-deb -f "$(echo "$new"/debs/linux-libc-dev*.deb)" Version | sed 's/^\([0-9]*\)\.\([0-9]*\).*/\1_\2/')
}

# A library's link to its run-time object leads to lib/; archives and start files are for linking only.
place_library() {
	local file=$1 name=${1##*/}
	case $name in
	libbfd* | libopcodes* | libctf* | libgprofng* | libsframe*) ;; # the assembler's own
	*.so.[0-9]* | ld-linux*) cp -a "$file" "$sysroot/lib/" ;;
	*.so) if [ -L "$file" ]; then ln -sfn "../../lib/$(basename "$(readlink "$file")")" "$sysroot/usr/lib/$name"; else cp -a "$file" "$sysroot/usr/lib/"; fi ;;
	*.a | *.o) cp -a "$file" "$sysroot/usr/lib/" ;;
	esac
}

fill_sysroot() {
	local include=$raw/usr/include folders=("$raw/lib/$triplet" "$raw/usr/lib/$triplet") folder file link script
	if [ "$(uname -m)" != "$arch" ]; then
		include=$raw/usr/$triplet/include
		folders=("$raw/usr/$triplet/lib")
	fi
	mkdir -p "$sysroot/lib" "$sysroot/usr/lib" "$sysroot/usr/include"
	cp -a "$include/." "$sysroot/usr/include/"
	if [ -d "$sysroot/usr/include/$triplet" ]; then
		cp -a "$sysroot/usr/include/$triplet/." "$sysroot/usr/include/"
		rm -rf "${sysroot:?}/usr/include/$triplet"
	fi
	for folder in "${folders[@]}"; do
		for file in "$folder"/*; do
			if [ -e "$file" ] || [ -L "$file" ]; then place_library "$file"; fi
		done
	done
	[ -e "$sysroot/lib/$loader" ] || fail "Debian's packages for $arch have no $loader"
	find "$sysroot/lib" -type l | while read -r link; do ln -sfn "$(basename "$(readlink "$link")")" "$link"; done
	# The linker puts the sysroot before absolute paths in its scripts.
	grep -lsIE '^(GROUP|INPUT|OUTPUT_FORMAT)|GNU ld script' "$sysroot"/usr/lib/*.so "$sysroot"/usr/lib/*.a | while read -r script; do
		[ ! -L "$script" ] || continue
		sed -i -E "s#/usr/lib/$triplet/#/usr/lib/#g; s#/lib/$triplet/#/lib/#g; s#/lib64/#/lib/#g
			s#/usr/$triplet/lib/(lib[a-z_]*nonshared|libm-|libmvec\.a)#/usr/lib/\1#g; s#/usr/$triplet/lib/#/lib/#g" "$script"
	done
}

# A cross assembler needs its own libbfd, which is not among the machine's libraries.
keep_binutils_libraries() {
	local tool
	compgen -G "$raw/usr/lib/*/libbfd-*.so" >/dev/null || return 0
	mkdir -p "$new/usr/binutils/lib"
	cp -a "$raw"/usr/lib/*/lib{bfd,opcodes,ctf,gprofng,sframe}*.so* "$new/usr/binutils/lib/" 2>/dev/null || true
	for tool in "${binutils_tools[@]}"; do
		[ -e "$new/usr/bin/$triplet-$tool" ] || continue
		cp -L "$new/usr/bin/$triplet-$tool" "$new/usr/binutils/$tool"
		rm -f "$new/usr/bin/$triplet-$tool"
		cat >"$new/usr/bin/$triplet-$tool" <<-WRAPPER
			#!/bin/sh
			d=\$(dirname "\$(readlink -f "\$0")")/../binutils
			LD_LIBRARY_PATH=\$d/lib exec "\$d/$tool" "\$@"
		WRAPPER
		chmod +x "$new/usr/bin/$triplet-$tool"
	done
}

place_compiler() {
	local folder tool private link name
	mkdir -p "$new/usr/lib" "$new/usr/bin" "$new/usr/$triplet/bin"
	cp -a "$raw/usr/bin/$triplet"-* "$new/usr/bin/"
	for folder in gcc gcc-cross bfd-plugins; do
		[ ! -d "$raw/usr/lib/$folder" ] || cp -a "$raw/usr/lib/$folder" "$new/usr/lib/"
	done
	[ ! -d "$raw/usr/libexec/gcc" ] || { mkdir -p "$new/usr/libexec" && cp -a "$raw/usr/libexec/gcc" "$new/usr/libexec/"; }
	keep_binutils_libraries
	for tool in "${binutils_tools[@]}"; do
		[ ! -e "$new/usr/bin/$triplet-$tool" ] || ln -sfn "../../bin/$triplet-$tool" "$new/usr/$triplet/bin/$tool"
	done
	# The compiler's own folder has links into Debian's library folders. Sanitizers and C++ are not provided.
	private=$(dirname "$(find "$new/usr/lib" -name libgcc.a | head -n 1)")
	find "$private" -type l ! -exec test -e {} \; -print | while read -r link; do
		name=$(basename "$(readlink "$link")")
		if [ -e "$sysroot/lib/$name" ]; then ln -sfn "$(realpath -m --relative-to="$private" "$sysroot/lib/$name")" "$link"; else rm -f "$link"; fi
	done
	rm -f "$private"/lib{asan,tsan,ubsan,lsan,hwasan,itm,quadmath}*.a "$private"/lib{asan,tsan}_preinit.o
}

# Buildroot refuses a compiler that reports / as its sysroot, as Debian's does; this one is told another by the wrapper.
write_wrappers() {
	local program tool
	mkdir -p "$new/bin"
	for program in gcc cpp; do
		cat >"$new/bin/$prefix-$program" <<-WRAPPER
			#!/bin/sh
			d=\${0%/*}
			case \$0 in */*) ;; *) d=\$(dirname "\$(command -v "\$0")") ;; esac
			d=\$(readlink -f "\$d/..")
			if [ "\$#" = 1 ] && [ "\$1" = -v ]; then
				"\$d/usr/bin/$triplet-$program-$gcc_version" --sysroot="\$d/sysroot" -v 2>&1 |
					sed "s# --with-sysroot=/ # --with-sysroot=\$d/sysroot #" >&2
				exit 0
			fi
			exec "\$d/usr/bin/$triplet-$program-$gcc_version" --sysroot="\$d/sysroot" "\$@"
		WRAPPER
		chmod +x "$new/bin/$prefix-$program"
	done
	ln -s "$prefix-gcc" "$new/bin/$prefix-cc"
	for program in gcc-ar gcc-nm gcc-ranlib gcov; do
		ln -s "../usr/bin/$triplet-$program-$gcc_version" "$new/bin/$prefix-$program"
	done
	for tool in "${binutils_tools[@]}"; do
		[ ! -e "$new/usr/bin/$triplet-$tool" ] || ln -s "../usr/bin/$triplet-$tool" "$new/bin/$prefix-$tool"
	done
}

[ ! -e "$out/facts" ] || exit 0
echo ">>> repacking Debian's gcc $gcc_version for $arch"
rm -rf "$new" "$out"
unpack
fill_sysroot
place_compiler
write_wrappers
rm -rf "$raw" "$new/debs"
printf 'gcc=%s\nheaders=%s\n' "$gcc_version" "$headers" >"$new/facts"
mv "$new" "$out"
"$out/bin/$prefix-gcc" -dumpversion >/dev/null || fail "the repacked compiler in $out does not start"
