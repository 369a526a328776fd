################################################################################
#
# aios-model-minilm
#
################################################################################

AIOS_MODEL_MINILM_VERSION = 0.1.0
AIOS_MODEL_MINILM_SOURCE = model.safetensors
AIOS_MODEL_MINILM_FILE = model.safetensors
AIOS_MODEL_MINILM_ALSO = config.json sentence_bert_config.json tokenizer.json
AIOS_MODEL_MINILM_LICENSE = Apache-2.0
AIOS_MODEL_MINILM_ID = all-minilm-l6-v2

$(eval $(call aios-model,AIOS_MODEL_MINILM))
$(eval $(generic-package))
