"""The recipes that are compared."""

from __future__ import annotations

import importlib
import json
import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from manet_basicsr.commands.basicsr import main

ROOT = Path(__file__).resolve().parents[2]
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT / 'tools'))
    CHOICES = runpy.run_path(str(ROOT / 'tools/choices.py'))
    ON_CPU = importlib.import_module('short_training').ON_CPU
VARIANTS = [(kind, number) for kind, (_, _, variants) in CHOICES['KINDS'].items() for number in range(len(variants))]


@pytest.mark.usefixtures('here')
@pytest.mark.parametrize(('kind', 'number'), VARIANTS)
def test_each_variant_is_an_option_file_without_problems(
    kind: str, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file, shortened, variants = CHOICES['KINDS'][kind]
    changes = {**ON_CPU, **shortened, **list(variants.values())[number]}
    forced = [f'{key}={json.dumps(value)}' for key, value in changes.items()]
    main(['check', '-opt', str(ROOT / 'options/train' / file), '--force_yml', *forced])
    problems = capsys.readouterr().err.splitlines()
    assert len(problems) == 2 and all('dataroot_gt' in problem for problem in problems)  # there are no images


class _Known(nn.Module):
    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *_: Tensor) -> Tensor:
        return self.answer


def test_scores_are_divergence_and_decibels() -> None:
    kernel = torch.tensor([0.5, 0.5, *[0.0] * 7])[:, None, None]
    crop = {'lq': torch.zeros(3, 4, 4), 'gt': torch.full((3, 8, 8), 0.5), 'kernel': kernel}
    same = kernel[None].expand(1, 9, 4, 4)
    assert CHOICES['score']('estimator', _Known(same), [crop]) == pytest.approx(0, abs=1e-6)
    flat = torch.full((1, 9, 4, 4), 1 / 9)
    assert CHOICES['score']('estimator', _Known(flat), [crop]) == pytest.approx(
        torch.tensor(4.5).log().item(), abs=1e-5
    )
    off = torch.full((1, 3, 8, 8), 0.4)
    assert CHOICES['score']('generator', _Known(off), [crop]) == pytest.approx(20, abs=1e-4)
