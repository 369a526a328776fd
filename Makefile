# One way in for everything: `make help`. Rooms: configs/ says what to build, support/ how, board/ what a machine is.
# Targets that are not named here are Buildroot's, where Buildroot is the base (menuconfig, legal-info, aios-rebuild, ...).

SHELL := bash
O ?= $(CURDIR)/output
DL_DIR ?= $(CURDIR)/dl
DEFCONFIG ?= aios_x86_64_defconfig
export O DL_DIR DEFCONFIG

build := support/build.sh
host := support/host-packages.sh
vm := support/vm.sh

.PHONY: all help check test test-boards test-injection demo run up down boot bench bench-boot bench-inference bench-memory bench-retrieval bench-tools fuzz fuzz-policy fuzz-tools configs release-tarball lock pin-buildroot reproducible clean distclean
.DEFAULT_GOAL := all

all:
	@$(build) image

%_defconfig: FORCE
	@$(build) select $@

help:
	@sed -n 's/^#: //p' Makefile

#: Images
#:   make aios_x86_64_defconfig   choose what to build (configs/)
#:   make                         build it: output/images/
#:   make reproducible            build twice and compare
#:   make configs                 write the defconfigs from configs/fragments/ (needs BUILDROOT=DIR)
#:   make release-tarball         this tree and all crates, for builds without a crate registry
#:   make lock                    pin Debian's current packages for the prebuilt base
#:   make pin-buildroot           pin the Buildroot release, after a check of its signature
#:   make clean | distclean       remove the output | downloads and compiled programs too
#:
#: In QEMU
#:   make demo                    build, boot, ask the local model a question
#:   make run                     console in this terminal
#:   make up | down               in the background, until the model answers | orderly shutdown
#:   make boot IMAGE=iso|img|qcow2 FIRMWARE=uefi|bios   (a Raspberry Pi: neither)
#:
#: Checks
#:   make check                   format, lints, dependencies, shell scripts, documentation
#:   make test                    every test, QEMU boots included, on the image of this machine's architecture, and the
#:                                kernels of the other one, emulated
#:   make test-boards             builds the boards of the other architecture, boots and installs them (BOARDS="rpi4 ...": these)
#:   make test-injection          attacks on a model that obeys them all, at the real tools (as root; EVERY=10: each tenth)
#:   make fuzz                    damaged model files for FUZZ_SECONDS (default: 1800)
#:   make fuzz-policy             damaged policies, capabilities and tokens for FUZZ_SECONDS
#:   make fuzz-tools              damaged arguments of all tools for FUZZ_SECONDS
#:   make bench-boot | bench-inference
#:   make bench-memory            search among embeddings beside chromadb, sqlite-vec and usearch from the package index; takes
#:                                an hour, VECTORS=10000,100000 a few minutes
#:   make bench-retrieval         how well memory finds things: words, vectors, both
#:   make bench-tools             ledger, tokens and decisions, sandbox (as root)
#:
#: Variables
#:   BASE=buildroot|prebuilt      insist on a base        BUILDROOT=DIR   use this Buildroot tree
#:   OFFLINE=debian               with BUILDROOT: sources from a Debian mirror alone (docs/buildroot.md)
#:   YES=1 (or CI=true)           install missing packages without asking
#:   DEBIAN_MIRROR=ADDRESS        another mirror than the machine's own
#:   MODEL_URL=ADDRESS            a copy of the factory model.gguf
#:   O=DIR  DL_DIR=DIR            output and download folders

check:
	@$(host) check
	@support/check.sh

test: all
	@support/test.sh

test-boards:
	@support/test-boards.sh

demo: all
	@$(vm) demo

run: all
	@$(vm) run

up: all
	@$(vm) up

down:
	@$(vm) down

boot: all
	@$(vm) boot $(if $(IMAGE),--image $(IMAGE)) $(if $(FIRMWARE),--firmware $(FIRMWARE))

bench: bench-boot bench-inference bench-memory bench-tools

bench-boot: all
	@$(vm) bench-boot

bench-inference: all
	@support/bench-inference.sh

bench-memory:
	@support/bench-memory.sh

bench-retrieval:
	@support/bench-retrieval.sh

bench-tools:
	@support/bench-tools.sh

test-injection:
	@support/test-injection.sh

fuzz:
	@support/fuzz.sh

fuzz-policy:
	@cargo run --locked --release -p aios-policy --example fuzz_policy -- --seconds $(or $(FUZZ_SECONDS),1800)

fuzz-tools:
	@cargo run --locked --release -p aios-tools --example fuzz_arguments -- --seconds $(or $(FUZZ_SECONDS),1800)

configs:
	@support/configs.sh write

release-tarball:
	@support/release-tarball.sh

lock:
	@$(host) lock
	@for wanted in support/prebuilt/packages.*; do support/prebuilt/lock.sh $${wanted##*.}; done

pin-buildroot:
	@support/buildroot.sh pin

reproducible:
	@support/reproducible.sh

clean:
	rm -rf $(O)

distclean: clean
	rm -rf $(DL_DIR) target

FORCE:

Makefile: ;

.DEFAULT:
	@$(build) target $@
