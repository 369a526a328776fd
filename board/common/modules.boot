# Modules that stage 1 loads, with what they need, before it looks for the root file system; the board's own modules.boot
# has more. A kernel may be without those with a `-` before them: not every machine has their bus.

# Disks: virtual, SATA and IDE, NVMe, USB, memory cards.
-virtio_blk
-virtio_scsi
-virtio_mmio
-ahci
-ata_piix
-nvme
usb_storage
-uas
-xhci_pci
-ehci_pci
-ohci_pci
mmc_block
-sdhci_pci
-sdhci_acpi
sd_mod
-sr_mod

# Checksums for what follows, then file systems: root, live medium, first-boot configuration, data.
-crc32c_generic
erofs
isofs
overlay
vfat
nls_ascii
nls_cp437
nls_iso8859_1
ext4
loop
