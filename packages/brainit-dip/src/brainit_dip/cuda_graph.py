"""A step that is recorded once as a CUDA graph and replayed from then on."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP = 3
"""Steps run as usual before the recording, on a stream of their own, as CUDA graphs ask for."""


class GraphedStep:
    """Calls a function as usual at first, then replays what it launched.

    The function must read and write the same tensors at every call and never wait for the device.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        """Keep the function, whose tensors are all on `device`; nothing runs yet."""
        self._step, self._device, self._calls = step, device, 0
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Take one step."""
        with torch.cuda.device(self._device):
            if self._calls < WARM_UP:
                self._warm_up()
                return
            if self._graph is None:
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph):
                    self._step()
            self._graph.replay()

    def _warm_up(self) -> None:
        self._calls += 1
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._step()
        torch.cuda.current_stream().wait_stream(self._stream)
