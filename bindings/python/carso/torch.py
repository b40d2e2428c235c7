# SPDX-License-Identifier: BSD-2-Clause
"""The classifier and the defence of a model as torch.nn.Modules with exact gradients to the image.

    >>> import carso.torch
    >>> defence = carso.torch.Defence(model, draws=8)
    >>> loss = torch.nn.functional.cross_entropy(defence(images), labels)
    >>> (gradient,) = torch.autograd.grad(loss, images)

Any attack that is written for PyTorch runs on them unchanged. Images are (N, channels, height, width) in [0, 1].
"""

from typing import Any, Optional, Tuple, Union

try:
    import torch
except ImportError as error:
    raise ImportError(f"carso.torch needs PyTorch, which this Python does not have: {error}") from error

from .enums import Aggregation, Objective, member
from .errors import NonFiniteError
from .model import Model

_SEEDS = 1 << 63


class _Logits(torch.autograd.Function):
    """images -> logits (draws, N, classes) in double."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, model: Model, draws: int, seed: int) -> torch.Tensor:
        array = images.detach().to("cpu", torch.float32).contiguous().numpy()
        ctx.model, ctx.draws, ctx.seed = model, draws, seed
        # The library gets the same numbers again: nobody else may change them in between.
        ctx.save_for_backward(images)
        if draws:
            logits = model.predict_robust(array, draws=draws, seed=seed, layout="chw").logits
        else:
            logits = model.predict(array, layout="chw").logits
        return torch.tensor(logits, dtype=torch.float64, device=images.device)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> Tuple[Optional[torch.Tensor], None, None, None]:
        (images,) = ctx.saved_tensors
        array = images.detach().to("cpu", torch.float32).contiguous().numpy()
        result = ctx.model.gradient(
            array,
            objective=Objective.DEFENCE if ctx.draws else Objective.CLASSIFIER,
            draws=ctx.draws or None,
            seed=ctx.seed,
            logit_gradient=slope.detach().cpu().numpy(),
            layout="chw",
        )
        gradient = torch.from_numpy(result.gradient).to(images.device, images.dtype)
        return gradient, None, None, None


class _Network(torch.nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        # Programs that attack modules ask their first parameter where they are.
        self.place = torch.nn.Parameter(torch.empty(0), requires_grad=False)

    def _logits(self, images: torch.Tensor, draws: int, seed: int) -> torch.Tensor:
        if not isinstance(images, torch.Tensor) or not images.is_floating_point():
            raise TypeError("images must be a tensor of floating-point numbers in [0, 1]")
        if tuple(images.shape[1:]) != self.model.shape or images.dim() != 4:
            expected = ", ".join(str(size) for size in self.model.shape)
            raise ValueError(f"images of shape {tuple(images.shape)}; (N, {expected}) is needed")
        if images.shape[0] == 0:
            # Attacks that leave out finished images may have none left.
            return images.double().sum() + images.new_zeros((max(draws, 1), 0, self.model.info.classes)).double()
        return _Logits.apply(images, self.model, draws, seed)


class Classifier(_Network):
    """The classifier alone: (N, classes) logits, in the images' type."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._logits(images, 0, 0)[0].to(images.dtype)


class Defence(_Network):
    """The whole defence, in which the gradient goes through both uses of the classifier.

    output "logits": numbers whose arg max is the defence's prediction and whose softmax does not saturate, in the
    images' type: of the aggregation "carso" the logarithms of the draws' mean exp(logit), of "logit" the mean logits,
    of "probability" the logarithms of the mean probabilities. "log_odds": log(p / (1 - p)) of the aggregated
    probabilities, in double; NonFiniteError where they leave its range. "draws": the logits (draws, N, classes) of each
    draw, in double.

    Each call makes fresh draws, and its backward pass is that of the same draws; image i of the batch gets its own.
    Seeds come from torch's generator (torch.manual_seed), or from `seed` on, one by one. fresh=False holds the draws of
    `seed` (None: 0) still. Averaging over draws, and over calls (EoT), is for the attack to do.
    """

    def __init__(
        self,
        model: Model,
        *,
        draws: int = 8,
        aggregation: Union[Aggregation, str] = Aggregation.CARSO,
        output: str = "logits",
        seed: Optional[int] = None,
        fresh: bool = True,
    ) -> None:
        super().__init__(model)
        if not model.info.has_purifier:
            raise ValueError("the model has no purifier; carso.torch.Classifier is the classifier alone")
        if draws < 1:
            raise ValueError(f"draws is {draws}; 1 or more are needed")
        if output not in ("logits", "log_odds", "draws"):
            raise ValueError(f"output is {output!r}; 'logits', 'log_odds' or 'draws' is needed")
        self.draws = draws
        self.aggregation = member(Aggregation, aggregation)
        self.output = output
        self.fresh = fresh
        self._next_seed = 0 if seed is None and not fresh else seed

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self._logits(images, self.draws, self._take_seed())
        if self.output == "draws":
            return logits
        if self.output == "log_odds":
            return self._log_odds(logits)
        return self._aggregated(logits).to(images.dtype)

    def _take_seed(self) -> int:
        if self._next_seed is None:
            return int(torch.randint(_SEEDS - 1, ()))
        seed = self._next_seed
        if self.fresh:
            self._next_seed = (seed + 1) % (1 << 64)
        return seed

    def _aggregated(self, logits: torch.Tensor) -> torch.Tensor:
        count = torch.log(torch.tensor(float(self.draws), dtype=logits.dtype, device=logits.device))
        if self.aggregation is Aggregation.LOGIT:
            return logits.mean(0)
        if self.aggregation is Aggregation.PROBABILITY:
            logits = torch.log_softmax(logits, 2)
        return torch.logsumexp(logits, 0) - count

    def _log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        score = self._aggregated(logits)
        if self.aggregation is Aggregation.CARSO:
            score = self.draws * torch.exp(score)
        # log p_k - log sum of the others
        classes = score.shape[1]
        own = torch.eye(classes, dtype=torch.bool, device=score.device)
        others = score.unsqueeze(1).expand(-1, classes, -1).masked_fill(own, -float("inf"))
        result = score - torch.logsumexp(others, 2)
        if not torch.isfinite(result).all():
            raise NonFiniteError("log-odds leave the range of double: the logits are too large; use output='logits'")
        return result

    def extra_repr(self) -> str:
        return (
            f"draws={self.draws}, aggregation={self.aggregation.name.lower()}, output={self.output!r}, "
            f"fresh={self.fresh}"
        )
