# Besides board/common/modules.boot: the USB controllers of old PCs.
uhci_hcd
