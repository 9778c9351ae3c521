"""One plain training loop for the four recipes: AdamW, warm-up and cosine, EMA, exact resume.

All randomness of a step comes from a generator seeded with (seed, step), so that a resumed training
draws what an uninterrupted one would have drawn, and a checkpoint needs no generator state.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps in all.
        rate: Peak learning rate, reached after `warmup` steps, then cosine to zero.
        ema: Decay of the averaged weights; 0 keeps none.
        shards: Parts of a batch that run side by side, one thread each. On busy cores this is much
            faster than threads inside every operation, which wait for each other thousands of times
            a step. Each part draws from its own generator, so their number is part of the recipe.
        save_every: Steps between checkpoints.
    """

    steps: int
    rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    ema: float = 0.0
    seed: int = 0
    save_every: int = 250
    shards: int = 1
    log_every: int = 50


LossOf = Callable[[torch.Generator], Tensor]


def step_generator(seed: int, step: int, shard: int = 0) -> torch.Generator:
    """The generator that all randomness of one step (and shard) comes from."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step + shard * 1_000_000_007)


def rate_at(plan: Plan, step: int) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine down to zero."""
    if step < plan.warmup:
        return plan.rate * (step + 1) / plan.warmup
    done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return plan.rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class Trainer:
    """Trains one module with a loss that draws its own batch.

    Args:
        model: Module to train, in place.
        loss_of: Gives the loss of one step from that step's generator.
        plan: Length and rates.
        folder: Holds `checkpoint.safetensors` (model, EMA, moments), `state.json`, `metrics.jsonl`.
    """

    def __init__(self, model: nn.Module, loss_of: LossOf, plan: Plan, folder: Path) -> None:
        self.model, self.loss_of, self.plan, self.folder = model, loss_of, plan, folder
        self.parameters = dict(model.named_parameters())
        decayed = [p for p in self.parameters.values() if p.ndim > 1]
        plain = [p for p in self.parameters.values() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups,
            lr=plan.rate,
            betas=plan.betas,
            weight_decay=plan.weight_decay,
            fused=True,
        )
        self.average = (
            {k: p.detach().clone() for k, p in self.parameters.items()} if plan.ema else {}
        )
        self.pool = (
            ThreadPoolExecutor(plan.shards, initializer=torch.set_num_threads, initargs=(1,))
            if plan.shards > 1
            else None
        )
        self.step = 0
        self.seconds = 0.0

    def fit(self, resume: bool = True, every: Callable[[Trainer], None] | None = None) -> None:
        """Train to the plan's last step, from the folder's checkpoint if there is one.

        Args:
            resume: Continue from the checkpoint; otherwise start anew.
            every: Called after each checkpoint.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume and (self.folder / "state.json").exists():
            self.load()
        self.model.train()
        began, losses = time.time() - self.seconds, list[float]()
        while self.step < self.plan.steps:
            losses.append(self._advance())
            self.seconds = time.time() - began
            if self.step % self.plan.log_every == 0 or self.step == self.plan.steps:
                self._log(sum(losses) / len(losses))
                losses.clear()
            if self.step % self.plan.save_every == 0 or self.step == self.plan.steps:
                self.save()
                if every:
                    every(self)

    def averaged(self) -> dict[str, Tensor]:
        """State dict with the averaged parameters where the plan keeps them."""
        return {**self.model.state_dict(), **self.average}

    def save(self) -> None:
        """Write the checkpoint; a reader sees the old one or the new one, never a half."""
        tensors = {f"model/{k}": v.contiguous() for k, v in self.model.state_dict().items()}
        tensors |= {f"ema/{k}": v.contiguous() for k, v in self.average.items()}
        for name, parameter in self.parameters.items():
            for moment, value in self.optimiser.state[parameter].items():
                tensors[f"adam/{moment}/{name}"] = value.contiguous()
        state = {"step": self.step, "seconds": self.seconds, "seed": self.plan.seed}
        temporary = self.folder / "checkpoint.tmp"
        # The state travels in the same file, so that one replace changes both; the JSON is for you.
        save_file(tensors, temporary, metadata={"state": json.dumps(state)})
        os.replace(temporary, self.folder / "checkpoint.safetensors")
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self.folder / "state.json")

    def load(self) -> None:
        """Take model, averages, moments and step from the checkpoint."""
        path = self.folder / "checkpoint.safetensors"
        tensors = load_file(path)
        self.model.load_state_dict(_under(tensors, "model/"))
        self.average = _under(tensors, "ema/")
        moments = _under(tensors, "adam/")
        for name, parameter in self.parameters.items():
            self.optimiser.state[parameter] = {
                moment: _like(parameter, moments[f"{moment}/{name}"])
                for moment in ("step", "exp_avg", "exp_avg_sq")
            }
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _advance(self) -> float:
        rate = rate_at(self.plan, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        value = self._gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        self.optimiser.step()
        self.step += 1
        if self.average:
            # Early steps average over fewer, so that the initial weights fade quickly.
            decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))
            names = list(self.average)
            torch._foreach_lerp_(
                [self.average[k] for k in names],
                [self.parameters[k].detach() for k in names],
                1 - decay,
            )
        if not math.isfinite(value):
            raise RuntimeError(f"{self.folder}: loss is {value} at step {self.step}")
        return value

    def _gradients(self) -> float:
        """Leave the mean gradient of the step's shards in the parameters; give the mean loss."""
        shards = range(self.plan.shards)
        answers = list(
            self.pool.map(self._shard, shards) if self.pool else map(self._shard, shards)
        )
        for parameter, *gradients in zip(
            self.parameters.values(), *(gradients for _, gradients in answers), strict=True
        ):
            # The fused optimiser reads raw memory: a gradient must lie in its parameter's order.
            parameter.grad = _like(parameter, torch.stack(gradients).mean(0))
        return sum(value for value, _ in answers) / len(answers)

    def _shard(self, shard: int) -> tuple[float, tuple[Tensor, ...]]:
        loss = self.loss_of(step_generator(self.plan.seed, self.step, shard))
        return loss.item(), torch.autograd.grad(loss, list(self.parameters.values()))

    def _log(self, loss: float) -> None:
        line = {"step": self.step, "loss": round(loss, 5), "seconds": round(self.seconds, 1)}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A value of the parameter's shape in the parameter's memory order; others as they are."""
    return torch.empty_like(parameter).copy_(value) if value.ndim == parameter.ndim else value
