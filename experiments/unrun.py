"""What the papers measured and nobody has run here: each a row of the ledger, with the command that would."""

__all__ = ["UNRUN"]

UNRUN = {
    "ImageNet-1K, ViT-B/14, 100 epochs: SPHERE-JEPA 50.4 k-NN and 61.0 linear, with a slow teacher 62.6 and 69.3 "
    "(2605.26900)": "isosphere train IMAGENET --out RUN --preset imagenet1k-sphere-jepa-ema",
    "Transfer of that network to DTD, Aircraft, CIFAR-10 and -100, Flowers, Food and Pets: 54.1 linear on average, "
    "58.3 with a slow teacher (2605.26900)": "isosphere evaluate RUN SET --tasks linear",
    "ImageNet-100, ResNet-18, 200 epochs: SUSReg 71.2 linear, MMD and KSD 72.2 to 72.6, KL 67.7 (2606.17603)": (
        "isosphere train IMAGENET100 --out RUN --preset imagenet100-ksd-heat"
    ),
    "Galaxy10, ResNet-50, 200 epochs: SUSReg 72.1 linear, MMD and KSD 76.2 to 77.2, KL 75.8 (2606.17603)": (
        "isosphere train galaxy10:FILE --out RUN --preset galaxy10-ksd-bandlimited"
    ),
    "Textures of 224 px, 10,000 a family: SUSReg 92.6 mAP, KL 96.7 (2606.17603)": (
        "isosphere train --out RUN --preset textures-kl-heat --set data.family=cloud"
    ),
    "Imagenette, LeJEPA's own example, ViT-S/8, 800 epochs: 90.7 linear (2511.08544)": (
        "isosphere train IMAGENETTE --out RUN --preset imagenette-lejepa"
    ),
    "VJE on CIFAR-100, STL-10 and ImageNet-1K (2602.05639)": (
        "isosphere train torchvision:CIFAR100:PATH --out RUN --preset cifar100-vje"
    ),
    "Hyperspherically regularised BYOL on ImageNet-1K (2105.00925)": (
        "isosphere train IMAGENET --out RUN --preset imagenet1k-byol-uniformity"
    ),
}
"""The papers' rows that no result here speaks of, by what they say; the command trains or judges one of them."""
