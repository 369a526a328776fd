# Besides board/common/modules.boot: controllers that sit on no PCI bus.
ahci_platform
xhci_plat_hcd
ehci_platform
ohci_platform
