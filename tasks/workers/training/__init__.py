"""What the processes of a training do, as torchrun starts them."""
