################################################################################
#
# aios
#
################################################################################

AIOS_VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p;T;q' $(BR2_EXTERNAL_AIOS_PATH)/Cargo.toml)
AIOS_SITE = $(BR2_EXTERNAL_AIOS_PATH)
AIOS_SITE_METHOD = local
AIOS_LICENSE = MIT or Apache-2.0
AIOS_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE

# What a build leaves in the source tree: it is large, and Buildroot's own
# output is usually among it.
AIOS_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = \
	--exclude=/dl \
	--exclude=/output* \
	--exclude=/target

AIOS_CARGO_RELEASE_DIR = $(@D)/target/$(RUSTC_TARGET_NAME)/release

# Buildroot derives cargo's release profile from its own optimisation choices,
# and the environment overrides Cargo.toml. What a model's speed depends on
# stays as Cargo.toml has it; the rest stays as Buildroot has it, stripping
# included, so that BR2_STRIP_* and the debug options keep their meaning.
AIOS_CARGO_ENV = \
	$(filter-out \
		CARGO_PROFILE_RELEASE_OPT_LEVEL=% \
		CARGO_PROFILE_RELEASE_LTO=% \
		CARGO_PROFILE_RELEASE_CODEGEN_UNITS=%, \
		$(PKG_CARGO_ENV)) \
	CARGO_PROFILE_RELEASE_STRIP="none" \
	CARGO_TARGET_$(call UPPERCASE,$(RUSTC_TARGET_NAME))_RUSTFLAGS="--remap-path-prefix=$(@D)=/usr/src/aios" \
	CARGO_TARGET_DIR="$(@D)/target"

AIOS_CARGO = \
	cd $(@D) && \
	$(TARGET_MAKE_ENV) \
		$(TARGET_CONFIGURE_OPTS) \
		$(AIOS_CARGO_ENV) \
		cargo \
			--config 'source.crates-io.replace-with="vendored"' \
			--config 'source.vendored.directory="$(@D)/VENDOR"'

# What cargo did is kept, so that a build without the optimisations that are
# asked for above fails.
AIOS_CARGO_MESSAGES = $(@D)/cargo-messages.json
AIOS_CHECK_PROGRAMS = $(@D)/support/check_programs.py

AIOS_CARGO_OPTS = \
	--message-format=json-render-diagnostics \
	--release \
	--offline \
	--locked \
	$(if $(VERBOSE),--verbose)

AIOS_CARGO_CRATES-$(BR2_PACKAGE_AIOS_CLI) += aios
AIOS_CARGO_CRATES-$(BR2_PACKAGE_AIOS_RUNTIME) += aios-runtime

# A local tree has no download step and so is not vendored by the cargo
# infrastructure, whose builds are offline. It is done before each build,
# not once at configuration, so that aios-rebuild follows a changed Cargo.lock.
# A release tarball comes with VENDOR and .vendor.lock, and needs no registry.
define AIOS_VENDOR
	cmp -s $(@D)/Cargo.lock $(@D)/.vendor.lock || ( \
		cd $(@D) && \
		mkdir -p $(BR_CARGO_HOME) && \
		rm -rf VENDOR .vendor.lock && \
		$(TARGET_MAKE_ENV) \
			$(PKG_COMMON_CARGO_ENV) \
			flock $(BR_CARGO_HOME)/.br-lock \
			cargo vendor --locked $(@D)/VENDOR > /dev/null && \
		cp Cargo.lock .vendor.lock \
	)
endef
AIOS_PRE_BUILD_HOOKS += AIOS_VENDOR

# aios-init is also the initramfs' only program, so it can't need a dynamic
# linker there.
define AIOS_BUILD_CMDS
	$(AIOS_CARGO) rustc $(AIOS_CARGO_OPTS) -p aios-init --bin aios-init -- \
		-C target-feature=+crt-static > $(AIOS_CARGO_MESSAGES)
	$(AIOS_CHECK_PROGRAMS) aios-init < $(AIOS_CARGO_MESSAGES)
	$(if $(AIOS_CARGO_CRATES-y), \
		$(AIOS_CARGO) build $(AIOS_CARGO_OPTS) --bins \
			$(addprefix -p ,$(AIOS_CARGO_CRATES-y)) > $(AIOS_CARGO_MESSAGES)
		$(AIOS_CHECK_PROGRAMS) $(AIOS_CARGO_CRATES-y) < $(AIOS_CARGO_MESSAGES))
endef

define AIOS_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(AIOS_CARGO_RELEASE_DIR)/aios-init \
		$(TARGET_DIR)/usr/sbin/aios-init
	mkdir -p $(TARGET_DIR)/sbin
	ln -sfn /usr/sbin/aios-init $(TARGET_DIR)/sbin/init
	$(foreach crate,$(AIOS_CARGO_CRATES-y), \
		$(INSTALL) -D -m 0755 $(AIOS_CARGO_RELEASE_DIR)/$(crate) \
			$(TARGET_DIR)/usr/bin/$(crate)
	)
endef

$(eval $(cargo-package))
