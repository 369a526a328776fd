################################################################################
#
# aios-model-smollm2
#
################################################################################

AIOS_MODEL_SMOLLM2_VERSION = 0.1.2
AIOS_MODEL_SMOLLM2_SOURCE = SmolLM2-135M-Instruct.Q4_1.gguf
AIOS_MODEL_SMOLLM2_FILE = model.gguf
AIOS_MODEL_SMOLLM2_LICENSE = Apache-2.0
AIOS_MODEL_SMOLLM2_ID = smollm2-135m-instruct

$(eval $(call aios-model,AIOS_MODEL_SMOLLM2))
$(eval $(generic-package))
