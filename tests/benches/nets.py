"""The networks of the peers' side: TriNet on torchvision's ResNet-50, and LuNet, in PyTorch's own modules."""

import torch


class Head(torch.nn.Sequential):
    def __init__(self, inputs, hidden, slope):
        nn = torch.nn
        super().__init__(nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.LeakyReLU(slope, inplace=True),
                         nn.Linear(hidden, 128))


class Block(torch.nn.Module):
    """Pre-activation, as LuNet's: batch normalisation, leaky ReLU, convolution; a 1x1 shortcut where channels change."""

    def __init__(self, layers):
        super().__init__()
        nn, parts = torch.nn, []
        for inputs, outputs, kernel in layers:
            parts += [nn.BatchNorm2d(inputs), nn.LeakyReLU(0.3, inplace=True),
                      nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)]
        self.body = nn.Sequential(*parts)
        first, last = layers[0][0], layers[-1][1]
        self.short = nn.Conv2d(first, last, 1, bias=False) if first != last else nn.Identity()

    def forward(self, x):
        # The body's first operation makes a new tensor, so the in-place ones leave x alone.
        return self.body(x) + self.short(x)


def lunet():
    nn = torch.nn
    pool = lambda: nn.MaxPool2d(3, 2, 1)
    block = lambda a, b, c: Block([(a, b, 1), (b, b, 3), (b, c, 1)])
    return nn.Sequential(
        nn.Conv2d(3, 128, 7, padding=3, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.3, inplace=True),
        block(128, 32, 128), pool(), block(128, 32, 128), block(128, 32, 128), block(128, 64, 256), pool(),
        block(256, 64, 256), block(256, 64, 256), pool(), block(256, 64, 256), block(256, 64, 256), block(256, 128, 512),
        pool(), block(512, 128, 512), block(512, 128, 512), pool(),
        Block([(512, 512, 3), (512, 128, 3)]), nn.Flatten(), Head(128 * 4 * 2, 512, 0.3),
    )


def trinet():
    import torchvision
    net = torchvision.models.resnet50()
    net.fc = Head(2048, 1024, 0.0)
    return net
