# Besides board/common/modules.boot: the card's controllers, of the Pi 4 and of the Pi 3 that QEMU plays.
sdhci_iproc
bcm2835
# USB: what resets the ports behind PCIe; and the controller of the USB-C socket, of compute modules and of the Pi 3.
reset_raspberrypi
phy_generic
dwc2
