# Besides board/common/modules.boot: the card's controller.
sdhci_brcmstb
