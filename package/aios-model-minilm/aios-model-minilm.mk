################################################################################
#
# aios-model-minilm
#
################################################################################

AIOS_MODEL_MINILM_VERSION = 0.1.0
AIOS_MODEL_MINILM_SOURCE = model.safetensors
AIOS_MODEL_MINILM_ALSO = config.json sentence_bert_config.json tokenizer.json
AIOS_MODEL_MINILM_EXTRA_DOWNLOADS = $(AIOS_MODEL_MINILM_ALSO)
AIOS_MODEL_MINILM_SITE = $(call qstrip,$(BR2_PACKAGE_AIOS_MODEL_MINILM_SITE))
AIOS_MODEL_MINILM_LICENSE = Apache-2.0
AIOS_MODEL_MINILM_LICENSE_FILES = LICENSE
AIOS_MODEL_MINILM_INSTALL_IMAGES = YES
AIOS_MODEL_MINILM_INSTALL_TARGET = NO
AIOS_MODEL_MINILM_ID = all-minilm-l6-v2
AIOS_MODEL_MINILM_FACTS = $(AIOS_MODEL_MINILM_PKGDIR)/model.toml

# Without a site, the source that model.toml names is fetched into a folder
# that then serves as the site, so that Buildroot checks the hashes and keeps
# the files as it always does.
ifeq ($(AIOS_MODEL_MINILM_SITE),)
AIOS_MODEL_MINILM_SITE = $(BUILD_DIR)/.aios-model-minilm
AIOS_MODEL_MINILM_SITE_METHOD = file

ifeq ($(BR2_PRIMARY_SITE_ONLY),)
define AIOS_MODEL_MINILM_FETCH
	test -e $(AIOS_MODEL_MINILM_DL_DIR)/$(AIOS_MODEL_MINILM_SOURCE) || ( \
		DL_DIR=$(AIOS_MODEL_MINILM_SITE) \
			$(BR2_EXTERNAL_AIOS_PATH)/support/fetch-model.sh \
			$(AIOS_MODEL_MINILM_FACTS) $(AIOS_MODEL_MINILM_SITE) && \
		mv $(AIOS_MODEL_MINILM_SITE)/$(AIOS_MODEL_MINILM_ID)/* \
			$(AIOS_MODEL_MINILM_SITE) \
	)
endef
AIOS_MODEL_MINILM_PRE_DOWNLOAD_HOOKS += AIOS_MODEL_MINILM_FETCH

define AIOS_MODEL_MINILM_FETCH_CLEAN
	rm -rf $(AIOS_MODEL_MINILM_SITE)
endef
AIOS_MODEL_MINILM_POST_DOWNLOAD_HOOKS += AIOS_MODEL_MINILM_FETCH_CLEAN
endif
endif

define AIOS_MODEL_MINILM_EXTRACT_CMDS
	$(foreach file,$(AIOS_MODEL_MINILM_SOURCE) $(AIOS_MODEL_MINILM_ALSO),
		cp $(AIOS_MODEL_MINILM_DL_DIR)/$(file) $(@D)/$(file)
	)
	cp $(BR2_EXTERNAL_AIOS_PATH)/LICENSE-APACHE $(@D)/LICENSE
endef

define AIOS_MODEL_MINILM_INSTALL_IMAGES_CMDS
	$(foreach file,$(AIOS_MODEL_MINILM_SOURCE) $(AIOS_MODEL_MINILM_ALSO),
		$(INSTALL) -D -m 0644 $(@D)/$(file) \
			$(BINARIES_DIR)/models/$(AIOS_MODEL_MINILM_ID)/$(file)
	)
	$(INSTALL) -D -m 0644 $(AIOS_MODEL_MINILM_FACTS) \
		$(BINARIES_DIR)/models/$(AIOS_MODEL_MINILM_ID)/model.toml
endef

$(eval $(generic-package))
