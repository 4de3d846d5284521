"""The order of image tensors in memory."""

import torch


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last where convolutions prefer it (CPU and CUDA)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last
