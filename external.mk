include $(BR2_EXTERNAL_AIOS_PATH)/package/aios-model.mk
include $(sort $(wildcard $(BR2_EXTERNAL_AIOS_PATH)/package/*/*.mk))

# The live medium starts GRUB by BIOS from a CD, where it finds itself, or from
# a stick, through boot_hybrid.img; the disk's boot.img starts grub.img. Of
# these Buildroot makes grub.img alone for a disk with partitions: its
# grub-eltorito.img looks for its configuration on BR2_TARGET_GRUB2_BOOT_PARTITION.
define AIOS_GRUB2_BIOS_IMAGES
	$(HOST_DIR)/bin/grub-mkimage \
		-d $(@D)/build-i386-pc/grub-core \
		-O i386-pc \
		-o $(@D)/build-i386-pc/cd-core.img \
		-p /boot/grub \
		$(GRUB2_BUILTIN_MODULES_i386-pc)
	cat $(@D)/build-i386-pc/grub-core/cdboot.img \
		$(@D)/build-i386-pc/cd-core.img \
		> $(BINARIES_DIR)/grub-eltorito.img
	cp $(@D)/build-i386-pc/grub-core/boot.img \
		$(@D)/build-i386-pc/grub-core/boot_hybrid.img \
		$(BINARIES_DIR)/
endef
ifeq ($(BR2_TARGET_GRUB2_I386_PC),y)
GRUB2_POST_INSTALL_IMAGES_HOOKS += AIOS_GRUB2_BIOS_IMAGES
endif

# Kconfig drops an option in silence when something it depends on is missing:
# the build stops instead, naming the option and its fragment.
define AIOS_LINUX_CHECK_CONFIG
	$(BR2_EXTERNAL_AIOS_PATH)/support/kernel-config.sh $(@D)/.config \
		$(call qstrip,$(BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES))
endef
LINUX_POST_CONFIGURE_HOOKS += AIOS_LINUX_CHECK_CONFIG
