################################################################################
#
# aios-model-smollm2
#
################################################################################

AIOS_MODEL_SMOLLM2_VERSION = 0.1.2
AIOS_MODEL_SMOLLM2_SOURCE = SmolLM2-135M-Instruct.Q4_1.gguf
AIOS_MODEL_SMOLLM2_SITE = $(call qstrip,$(BR2_PACKAGE_AIOS_MODEL_SMOLLM2_SITE))
AIOS_MODEL_SMOLLM2_LICENSE = Apache-2.0
AIOS_MODEL_SMOLLM2_LICENSE_FILES = LICENSE
AIOS_MODEL_SMOLLM2_INSTALL_IMAGES = YES
AIOS_MODEL_SMOLLM2_INSTALL_TARGET = NO
AIOS_MODEL_SMOLLM2_ID = smollm2-135m-instruct
AIOS_MODEL_SMOLLM2_FACTS = $(AIOS_MODEL_SMOLLM2_PKGDIR)/model.toml

# Without a site, the source that model.toml names is fetched into a folder
# that then serves as the site, so that Buildroot checks the hash and keeps
# the file as it always does.
ifeq ($(AIOS_MODEL_SMOLLM2_SITE),)
AIOS_MODEL_SMOLLM2_SITE = $(BUILD_DIR)/.aios-model-smollm2
AIOS_MODEL_SMOLLM2_SITE_METHOD = file

ifeq ($(BR2_PRIMARY_SITE_ONLY),)
define AIOS_MODEL_SMOLLM2_FETCH
	test -e $(AIOS_MODEL_SMOLLM2_DL_DIR)/$(AIOS_MODEL_SMOLLM2_SOURCE) || ( \
		DL_DIR=$(AIOS_MODEL_SMOLLM2_SITE) \
			$(BR2_EXTERNAL_AIOS_PATH)/support/fetch-model.sh \
			$(AIOS_MODEL_SMOLLM2_FACTS) $(AIOS_MODEL_SMOLLM2_SITE) && \
		mv $(AIOS_MODEL_SMOLLM2_SITE)/$(AIOS_MODEL_SMOLLM2_ID)/model.gguf \
			$(AIOS_MODEL_SMOLLM2_SITE)/$(AIOS_MODEL_SMOLLM2_SOURCE) \
	)
endef
AIOS_MODEL_SMOLLM2_PRE_DOWNLOAD_HOOKS += AIOS_MODEL_SMOLLM2_FETCH

define AIOS_MODEL_SMOLLM2_FETCH_CLEAN
	rm -rf $(AIOS_MODEL_SMOLLM2_SITE)
endef
AIOS_MODEL_SMOLLM2_POST_DOWNLOAD_HOOKS += AIOS_MODEL_SMOLLM2_FETCH_CLEAN
endif
endif

define AIOS_MODEL_SMOLLM2_EXTRACT_CMDS
	cp $(AIOS_MODEL_SMOLLM2_DL_DIR)/$(AIOS_MODEL_SMOLLM2_SOURCE) $(@D)/model.gguf
	cp $(BR2_EXTERNAL_AIOS_PATH)/LICENSE-APACHE $(@D)/LICENSE
endef

define AIOS_MODEL_SMOLLM2_INSTALL_IMAGES_CMDS
	$(INSTALL) -D -m 0644 $(@D)/model.gguf \
		$(BINARIES_DIR)/models/$(AIOS_MODEL_SMOLLM2_ID)/model.gguf
	$(INSTALL) -D -m 0644 $(AIOS_MODEL_SMOLLM2_FACTS) \
		$(BINARIES_DIR)/models/$(AIOS_MODEL_SMOLLM2_ID)/model.toml
endef

$(eval $(generic-package))
