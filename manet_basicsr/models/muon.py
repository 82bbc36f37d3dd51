"""Muon: momentum whose step is orthogonalised, for the hidden weights of a network; Adam for everything else."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from manet_basicsr.archs.protocols import output_layers

#: Coefficients (a, b, c) of the Newton-Schulz step ``X <- a X + (b A + c A A) X`` with ``A = X X'``. They do not
#: converge to 1: they bring every singular value quickly to about 0.7 .. 1.2, which serves as well.
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
# Keeps a gradient of zeros zero. Small, so that the step does not depend on the scale of the loss.
_LEAST_NORM = 1e-16


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Replace the singular values of matrices by values near 1, by Newton-Schulz steps.

    For ``M = U S V'`` the result is about ``U V'``: each ``X <- a X + (b A + c A A) X`` with ``A = X X'`` changes the
    singular values by an odd polynomial and leaves the singular vectors. The start is ``M`` divided by its Frobenius
    norm, so the result does not depend on the scale of ``M``.

    Args:
        matrices: ``(N, rows, columns)``, floating point.
        steps: Number of Newton-Schulz steps, at least 1; after five, singular values that were above a hundredth of
            the norm are between 0.65 and 1.25.

    Returns:
        ``(N, rows, columns)``, float32 (float64 for float64 matrices); a matrix of zeros stays as it is.

    Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:  # A is then the smaller of the two Gram matrices
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=_LEAST_NORM)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if is_tall else x


def hidden_weights(parameters: Sequence[Tensor], output: Sequence[Tensor] = ()) -> list[Tensor]:
    """Return the weights of the hidden layers: those of at least two dimensions, but of the first and the last layer.

    Args:
        parameters: Parameters in the order of their definition, as ``Module.parameters()`` has them.
        output: Those of the layers that make the output; without any of them, the weight defined last is that.
    """
    weights = [parameter for parameter in parameters if parameter.ndim >= 2]
    outer = {id(weight) for weight in output} & {id(weight) for weight in weights}
    outer = outer or {id(weight) for weight in weights[-1:]}
    return [weight for weight in weights[1:] if id(weight) not in outer]


class Muon(torch.optim.Optimizer):
    """Muon for the hidden weights, Adam for the first and the last layer, biases and vectors.

    The first layer is that which is defined first; those of the other parts of a network count as hidden.

    A hidden weight, as the matrix ``W`` of its first dimension by all others (of a convolution ``out x (in kh kw)``;
    of a transposed one ``in x (out kh kw)``), is changed by its gradient ``G``::

        M <- momentum M + (1 - momentum) G
        W <- (1 - lr weight_decay) W - lr sqrt(max(1, rows / columns)) orthogonalize((1 - momentum) G + momentum M)

    so every step has about the same size in all directions, whatever the size of the gradient. There are two parameter
    groups, the hidden weights and the others, with a rate each: schedulers and warm-ups, which work on the initial rate
    of each group, serve both. The step is a function of the gradients alone, so that processes with averaged
    gradients stay the same. Weights keep their memory format.

    Args:
        params: A network, whose trained parameters are taken, or trained parameters in the order of their definition,
            no groups. Which layer is first follows from that order; a network may name its last ones
            (:func:`output_layers`), of parameters alone the last is the last layer's.
        lr: Rate of the hidden weights, at least 0. It is in units of the weights' own spectral norm, thus larger than
            Adam's.
        momentum: Of the hidden weights, from 0 to below 1; Nesterov's.
        ns_steps: Newton-Schulz steps, at least 1.
        weight_decay: Of the hidden weights, decoupled, at least 0; the others have none.
        adam_lr: Rate of the others, at least 0.
        adam_betas: Decay of Adam's two averages, each from 0 to below 1.
        adam_eps: Adam's summand of the denominator, at least 0.

    Raises:
        ValueError: An argument is out of its range, or there are no parameters.
        TypeError: ``params`` is something else.

    Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """

    def __init__(
        self,
        params: nn.Module | Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        ns_steps: int = 5,
        weight_decay: float = 0.0,
        adam_lr: float = 5e-4,
        adam_betas: Sequence[float] = (0.9, 0.99),
        adam_eps: float = 1e-8,
    ) -> None:
        for name, value in (('lr', lr), ('weight_decay', weight_decay), ('adam_lr', adam_lr), ('adam_eps', adam_eps)):
            _check_range(name, value, math.inf)
        _check_range('momentum', momentum, 1)
        if isinstance(ns_steps, bool) or not isinstance(ns_steps, int) or ns_steps < 1:
            raise ValueError(f'ns_steps: found {ns_steps!r}, expected a whole number of at least 1')
        if not isinstance(adam_betas, (list, tuple)) or len(adam_betas) != 2:
            raise ValueError(f'adam_betas: found {adam_betas!r}, expected two numbers')
        for beta in adam_betas:
            _check_range('adam_betas', beta, 1)
        output: list[Tensor] = []
        if isinstance(params, nn.Module):
            for name in output_layers(params):
                output += params.get_submodule(name).parameters()
            params = [parameter for parameter in params.parameters() if parameter.requires_grad]
        parameters = list(params)
        if not all(isinstance(parameter, Tensor) for parameter in parameters):
            raise TypeError('params: expected a network, or tensors in the order of their definition, without groups')
        if not parameters:
            raise ValueError('params: found none, expected the trained parameters of a network')
        hidden = hidden_weights(parameters, output)
        chosen = {id(parameter) for parameter in hidden}
        others = [parameter for parameter in parameters if id(parameter) not in chosen]
        # Both groups are there even where one is empty: a state always has the same form.
        groups: list[dict[str, Any]] = [
            {
                'params': hidden,
                'lr': lr,
                'hidden': True,
                'momentum': momentum,
                'ns_steps': ns_steps,
                'weight_decay': weight_decay,
            },
            {'params': others, 'lr': adam_lr, 'hidden': False, 'betas': tuple(adam_betas), 'eps': adam_eps},
        ]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step; parameters without gradient stay as they are.

        Args:
            closure: Computes the loss anew, with gradients, before the step.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group['params'] if parameter.grad is not None]
            if group['hidden']:
                self._step_hidden(parameters, group)
            else:
                self._step_others(parameters, group)
        return loss

    def _step_hidden(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]['momentum_buffer'] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        averages = [self.state[parameter]['momentum_buffer'] for parameter in parameters]
        # All weights in one operation, and those of one shape in one product: on a GPU each operation has its price.
        torch._foreach_lerp_(averages, gradients, 1 - group['momentum'])
        directions = torch._foreach_lerp(gradients, averages, group['momentum'])
        if group['weight_decay']:
            torch._foreach_mul_(parameters, 1 - group['lr'] * group['weight_decay'])
        by_shape: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for number, weight in enumerate(parameters):
            by_shape[len(weight), weight.numel(), weight.dtype, weight.device].append(number)
        for numbers in by_shape.values():
            # A reshape goes by the logical order, in whatever memory format the gradient is.
            matrices = [directions[number].reshape(len(directions[number]), -1) for number in numbers]
            orthogonal = orthogonalize(torch.stack(matrices), group['ns_steps'])
            rows, columns = orthogonal.shape[1:]
            weights = [parameters[number] for number in numbers]
            steps = [step.view_as(weight) for step, weight in zip(orthogonal.unbind(), weights, strict=True)]
            torch._foreach_add_(weights, steps, alpha=-group['lr'] * math.sqrt(max(1, rows / columns)))

    def _step_others(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                # On the host, where torch's own Adam has it: no kernel for a number.
                state['step'] = torch.tensor(0.0)
                state['exp_avg'] = torch.zeros_like(parameter)
                state['exp_avg_sq'] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adam(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state['exp_avg'] for state in states],
            [state['exp_avg_sq'] for state in states],
            [],
            [state['step'] for state in states],
            amsgrad=False,
            beta1=group['betas'][0],
            beta2=group['betas'][1],
            lr=group['lr'],
            weight_decay=0,
            eps=group['eps'],
            maximize=False,
        )


def _check_range(name: str, value: object, end: float) -> None:
    """Refuse what is not a number from 0 to below ``end``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < end:
        limit = '' if end == math.inf else f' and below {end:g}'
        raise ValueError(f'{name}: found {value!r}, expected a number of at least 0{limit}')
