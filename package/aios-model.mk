################################################################################
#
# aios-model -- what the packages of factory models have in common
#
# A package sets AIOS_MODEL_X_VERSION, _LICENSE, _ID, and
#   _SOURCE  name of the weights' file in the download folder
#   _FILE    its name in the model's folder
#   _ALSO    further files, of the same name in both
# and then calls $(eval $(call aios-model,AIOS_MODEL_X)) before generic-package.
#
################################################################################

define aios-model

$(1)_SITE = $$(call qstrip,$$(BR2_PACKAGE_$(1)_SITE))
$(1)_EXTRA_DOWNLOADS = $$($(1)_ALSO)
$(1)_LICENSE_FILES = LICENSE
$(1)_INSTALL_IMAGES = YES
$(1)_INSTALL_TARGET = NO
$(1)_FACTS = $$($(1)_PKGDIR)/model.toml

# Without a site, the source that model.toml names is fetched into a folder
# that then serves as the site, so that Buildroot checks the hashes and keeps
# the files as it always does.
ifeq ($$($(1)_SITE),)
$(1)_SITE = $$(BUILD_DIR)/.$$($(1)_RAWNAME)
$(1)_SITE_METHOD = file

ifeq ($$(BR2_PRIMARY_SITE_ONLY),)
define $(1)_FETCH
	test -e $$($(1)_DL_DIR)/$$($(1)_SOURCE) || ( \
		DL_DIR=$$($(1)_SITE) \
			$$(BR2_EXTERNAL_AIOS_PATH)/support/fetch-model.sh \
			$$($(1)_FACTS) $$($(1)_SITE) && \
		cd $$($(1)_SITE)/$$($(1)_ID) && \
		mv $$($(1)_FILE) ../$$($(1)_SOURCE) && \
		for file in $$($(1)_ALSO); do mv $$$$file .. || exit 1; done \
	)
endef
$(1)_PRE_DOWNLOAD_HOOKS += $(1)_FETCH

define $(1)_FETCH_CLEAN
	rm -rf $$($(1)_SITE)
endef
$(1)_POST_DOWNLOAD_HOOKS += $(1)_FETCH_CLEAN
endif
endif

define $(1)_EXTRACT_CMDS
	cp $$($(1)_DL_DIR)/$$($(1)_SOURCE) $$(@D)/$$($(1)_FILE)
	$$(foreach file,$$($(1)_ALSO),
		cp $$($(1)_DL_DIR)/$$(file) $$(@D)/$$(file)
	)
	cp $$(BR2_EXTERNAL_AIOS_PATH)/LICENSE-APACHE $$(@D)/LICENSE
endef

define $(1)_INSTALL_IMAGES_CMDS
	$$(foreach file,$$($(1)_FILE) $$($(1)_ALSO),
		$$(INSTALL) -D -m 0644 $$(@D)/$$(file) \
			$$(BINARIES_DIR)/models/$$($(1)_ID)/$$(file)
	)
	$$(INSTALL) -D -m 0644 $$($(1)_FACTS) \
		$$(BINARIES_DIR)/models/$$($(1)_ID)/model.toml
endef

endef
