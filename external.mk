include $(sort $(wildcard $(BR2_EXTERNAL_AIOS_PATH)/package/*/*.mk))
