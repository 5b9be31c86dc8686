"""Checkpoints of PyTorch's libraries as networks of this library's parts (`from_pytorch`)."""
