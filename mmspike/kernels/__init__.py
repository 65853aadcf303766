"""What makes the neurons fast: the same functions as in plain PyTorch, fused over all time steps."""
