"""A step that is recorded once as a CUDA graph and replayed from then on."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP = 3
"""Steps run as usual before the recording, on a stream of their own, as CUDA graphs ask for."""


class GraphedStep:
    """Calls a function as usual at first, then replays what it launched.

    The function must be the same at every call, read and write the same tensors and never wait for
    the device. It is handed over, not kept: a method kept by its own object would leave that
    object's memory to the garbage collector.
    """

    def __init__(self, device: torch.device) -> None:
        """For a function whose tensors are all on `device`; nothing runs yet."""
        self._device, self._calls = device, 0
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, step: Callable[[], None]) -> None:
        """Take one step."""
        with torch.cuda.device(self._device):
            if self._calls < WARM_UP:
                self._warm_up(step)
                return
            if self._graph is None:
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph):
                    step()
            self._graph.replay()

    def _warm_up(self, step: Callable[[], None]) -> None:
        self._calls += 1
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            step()
        torch.cuda.current_stream().wait_stream(self._stream)
