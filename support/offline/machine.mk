# Host packages of Buildroot's for which the machine's own Debian packages serve. What is compiled for the device comes
# from source in any case; of these, only programs and libraries that help in building it are taken. It is read before
# the packages' own files, so each assignment needs `override` to hold.

OFFLINE_MACHINE_PATH = $(PATH):/usr/sbin:/sbin

# $(1): the package's variable prefix without HOST_; $(2): commands that Buildroot looks for in HOST_DIR. There is no
# source, no dependency and nothing to compile; a command that is missing stops the build with its name. Neither is there
# anything to hand on: legal-info names the package, without a source or a licence text.
define offline-machine-package
override HOST_$(1)_OVERRIDE_SRCDIR = $(OFFLINE_DIR)/empty
override HOST_$(1)_DEPENDENCIES =
override HOST_$(1)_AUTORECONF = NO
override HOST_$(1)_POST_RSYNC_HOOKS =
override HOST_$(1)_POST_PATCH_HOOKS =
override HOST_$(1)_PRE_CONFIGURE_HOOKS =
override HOST_$(1)_CONFIGURE_CMDS = true
override HOST_$(1)_BUILD_CMDS = true
override HOST_$(1)_INSTALL_CMDS = $$(call offline-machine-install,$(2))
override HOST_$(1)_LICENSE_FILES =
override HOST_$(1)_REDISTRIBUTE = NO
endef

offline-machine-install = mkdir -p $(HOST_DIR)/bin $(HOST_DIR)/sbin && \
	for tool in $(1); do \
		path=$$(PATH="$(OFFLINE_MACHINE_PATH)" command -v "$$tool") || \
			{ echo "error: this machine has no $$tool" >&2; exit 1; }; \
		ln -sfn "$$path" $(HOST_DIR)/bin/"$$tool" && \
		ln -sfn "$$path" $(HOST_DIR)/sbin/"$$tool" || exit 1; \
	done

$(eval $(call offline-machine-package,BISON,bison))
$(eval $(call offline-machine-package,ELFUTILS,))
$(eval $(call offline-machine-package,FAKEROOT,fakeroot))
$(eval $(call offline-machine-package,FLEX,flex))
$(eval $(call offline-machine-package,GAWK,gawk))
$(eval $(call offline-machine-package,GENIMAGE,genimage))
$(eval $(call offline-machine-package,KMOD,kmod depmod))
$(eval $(call offline-machine-package,LIBOPENSSL,))
$(eval $(call offline-machine-package,PATCHELF,))
$(eval $(call offline-machine-package,PKGCONF,pkgconf))
$(eval $(call offline-machine-package,QEMU,qemu-img))
$(eval $(call offline-machine-package,TAR,tar))
$(eval $(call offline-machine-package,XORRISO,xorriso))

override HOST_PATCHELF_INSTALL_CMDS = \
	$(INSTALL) -D -m 0755 $(BR2_EXTERNAL_AIOS_PATH)/support/offline/patchelf.sh $(HOST_DIR)/bin/patchelf

# Configure scripts are made with pkgconf's macros.
override HOST_PKGCONF_INSTALL_CMDS = $(call offline-machine-install,pkgconf) && \
	$(INSTALL) -D -m 0644 /usr/share/aclocal/pkg.m4 $(HOST_DIR)/share/aclocal/pkg.m4

# Rust finds its own libraries by the place that the link leads to. The C compiler for build scripts and the linker for
# the target are Buildroot's, through the configuration that the package's last hook writes.
$(eval $(call offline-machine-package,RUST_BIN,))
override HOST_RUST_BIN_INSTALL_CMDS = mkdir -p $(HOST_DIR)/bin && \
	for tool in cargo rustc rustdoc; do \
		ln -sfn $(OFFLINE_RUST)/bin/$$tool $(HOST_DIR)/bin/$$tool || exit 1; \
	done

override HOST_GAWK_POST_INSTALL_HOOKS =
override HOST_QEMU_POST_INSTALL_HOOKS =
