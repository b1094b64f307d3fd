// placeholder, written with the TorchScript export
