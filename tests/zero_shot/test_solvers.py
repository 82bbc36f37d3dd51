"""What holds of every solver, shortened: one result an image and seed, on either grid, named after its settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from manet_basicsr.degradation import anisotropic_gaussian_kernels, blur_downsample
from manet_basicsr.evaluation.methods import bicubic_upsample
from manet_basicsr.zero_shot import SOLVERS, Problem, Solution, Solver, build_solver, solve
from manet_basicsr.zero_shot.deep_image_prior import DeepImagePrior
from manet_basicsr.zero_shot.srsvd import SRSVD
from tests.degradation.drawing import centre_of_mass

#: Each solver as a quick one.
QUICK = {
    'dip': 'dip[steps=2,width=8]',
    'bsrdm': 'bsrdm[rounds=1,steps=2,walk=3,warmup=2,width=8]',
    'atoms': 'atoms[rounds=1,steps=2,walk=3,warmup=2,width=8,cell=8]',
    'srsvd': 'srsvd[weights={folder}/net_x{scale}.pth,patch=16,steps=1]',
    'dip_fkp': 'dip_fkp[steps=3,width=8,flow_steps=2]',
    'kernelgan': 'kernelgan[iterations=5]',
    'zssr': 'zssr[max_steps=3,stages=1]',
    'kernelgan+zssr': 'kernelgan+zssr[max_steps=3,iterations=5]',
}


@pytest.fixture(params=QUICK)
def solver(request: pytest.FixtureRequest, srsvd_weights: Path) -> Solver:
    return build_solver(QUICK[request.param].replace('{folder}', str(srsvd_weights)))


def lr_image(photos: Path, scale: int, alignment: str = 'centered', height: int = 34, width: int = 38) -> torch.Tensor:
    image = cv2.imread(str(photos / 'astronaut.png'))[: height * scale, : width * scale, ::-1].astype(np.float32) / 255
    gt = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    kernel = anisotropic_gaussian_kernels(torch.tensor([[4.0, 1]]), torch.tensor([0.5]), 21, scale, alignment)
    return blur_downsample(gt, kernel.view(1, -1, 1, 1), scale)


def test_every_solver_is_in_the_table() -> None:
    assert set(QUICK) == set(SOLVERS)


@pytest.mark.parametrize('alignment', ['centered', pytest.param('published', marks=pytest.mark.slow)])
def test_image_and_kernels_have_their_sizes_and_repeat_with_the_seed(
    solver: Solver, alignment: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = 2 if solver.SCALES else 3
    lq = lr_image(photos, scale, alignment)
    steps: list[tuple[int, int]] = []
    state = torch.get_rng_state()
    monkeypatch.delattr(torch.cuda, 'manual_seed_all')  # what is drawn on a GPU after a solver is not its business
    first = solve(solver, lq, scale, alignment=alignment, tick=lambda *pair: steps.append(pair))
    assert torch.equal(torch.get_rng_state(), state)
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert all(done <= total for done, total in steps)
    with torch.inference_mode():  # as an evaluation may be
        second = solve(solver, lq, scale, alignment=alignment)
    assert (first.sr is not None) == solver.RESTORES
    if first.sr is not None and second.sr is not None:
        assert first.sr.shape == (1, 3, scale * 34, scale * 38)
        assert first.sr.min() >= 0 and first.sr.max() <= 1
        assert torch.equal(first.sr, second.sr)
    assert first.field is not None and second.field is not None
    assert torch.equal(first.field, second.field)
    torch.testing.assert_close(first.field.sum(1), torch.ones_like(first.field[:, 0]))
    if solver.word == 'dip_fkp':
        return  # a flow of two steps knows no grid
    sign = 1 if alignment == 'centered' else -1
    assert (centre_of_mass(first.field) - sign * (scale - 1) / 2).abs().max() < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_an_image_on_a_gpu_is_solved_there(solver: Solver, photos: Path) -> None:
    solution = solve(solver, lr_image(photos, 2).cuda(), 2)
    assert (solution.sr is not None) == solver.RESTORES
    for part in (solution.sr, solution.field):
        assert part is None or (part.is_cuda and bool(part.isfinite().all()))


@pytest.mark.slow
def test_another_seed_gives_another_result_and_another_name(solver: Solver, photos: Path) -> None:
    lq = lr_image(photos, 2)
    other = build_solver(f'{solver.name[:-1]},seed=1]')
    assert 'seed=1' in other.name
    assert other.fingerprint() != solver.fingerprint()
    first, second = (solve(one, lq, 2) for one in (solver, other))
    chance = solver.word != 'srsvd'
    assert first.sr is None or torch.equal(first.sr, second.sr) != chance  # type: ignore[arg-type]


def test_names_tell_every_setting_that_is_not_the_papers() -> None:
    for word in SOLVERS:
        full, short = build_solver(word), build_solver(word, 'short')
        assert full.name == word
        assert (short.name == word) == (not short.SHORT)
        assert build_solver(short.name) == short
        assert all(f'{key}={value}' in short.name for key, value in short.SHORT.items())
        assert {item.name for item in fields(full)} <= set(full.fingerprint())
    assert build_solver('dip', 'short').name == 'dip[steps=1000,width=64]'
    assert build_solver('dip[steps=7]', 'short').name == 'dip[steps=7,width=64]'


def test_a_name_is_read_back_whatever_its_settings_are() -> None:
    assert build_solver('dip[rate=5e-5]').name == 'dip[rate=5e-05]'
    assert build_solver('dip[rate=1e-3]') == DeepImagePrior(rate=0.001)
    assert build_solver('dip[rate=1]').name == 'dip[rate=1.0]'
    assert build_solver('srsvd[weights=123]').name == 'srsvd[weights=123]'
    assert build_solver("srsvd[weights='a,b=1.pth', patch = 8]").name == 'srsvd[weights="a,b=1.pth",patch=8]'
    for file in (
        'a/net_x{scale}.pth',
        '{scale}.pth',
        'a, b.pth',
        ' a ',
        '',
        '~',
        '12',
        "it's",
        '"',
        'C:\\w.pth',
        'a#b #c',
        'ä]',
    ):
        solver: Solver = SRSVD(weights=file, patch=7)
        assert build_solver(solver.name) == solver, solver.name
    for rate in (5e-324, 1.7e308, 1e16, 0.1 + 0.2, 123456789.0):
        solver = DeepImagePrior(rate=rate)
        assert build_solver(solver.name) == solver, solver.name


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('dop', "unknown method 'dop'|method.*dop"),
        ('dip[step=3]', 'step'),
        ('dip[steps=x]', "setting steps: found 'x', expected a value like 2000"),
        ('dip[steps=-1]', 'dip: setting steps: found -1, expected a finite number of at least 1'),
        ('dip[steps=1', 'expected a ] at the end'),
        ('dip[', 'expected a ] at the end'),
        ('dip[steps=1,steps=2]', 'setting steps: found twice'),
        ('dip[steps=]', "setting steps: found '', expected a value like 2000"),
        ('dip[seed=true]', "setting seed: found 'true', expected a value like 0"),
        ('dip[rate=.nan]', 'setting rate: found nan, expected a finite number of at least 0'),
        ('dip[rate=1e999]', 'setting rate: found inf, expected a finite number'),
        (f'dip[rate=1{"0" * 400}]', 'setting rate: found inf, expected a finite number'),
        ('dip[rate=!!python/name:os.system]', 'setting rate: found .*, expected a value like 0.01'),
        ('dip[rate=[1]]', 'setting rate: found .*, expected a value like 0.01'),
        ('dip[kernel=box]', "setting kernel 'box' is not one of lanczos, bicubic, true"),
        ('srsvd[weights=]', 'setting weights: found .*, expected a value like experiments'),
        ('dip[steps=0]', 'dip: setting steps: found 0, expected a finite number of at least 1'),
        ('dip[width=0]', 'dip: setting width: found 0'),
        ('dip_fkp[steps=0]', 'dip_fkp: setting steps: found 0'),
        ('dip_fkp[width=1]', 'dip_fkp: setting width: found 1, expected a finite number of at least 2'),
        ('bsrdm[steps=0]', 'bsrdm: setting steps: found 0'),
        ('kernelgan[iterations=0]', 'kernelgan: setting iterations: found 0'),
        ('zssr[max_steps=0]', 'zssr: setting max_steps: found 0'),
        ('zssr[stages=3]', 'zssr: setting stages 3 is not one of 1, 2'),
        ('kernelgan+zssr[max_steps=0]', r'kernelgan\+zssr: setting max_steps: found 0'),
        ('kernelgan+zssr[iterations=0]', r'kernelgan\+zssr: setting iterations: found 0'),
    ],
)
def test_what_is_no_solver_or_no_setting_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_solver(text)
    with pytest.raises(ValueError, match='budget'):
        build_solver('dip', 'shorter')


def test_an_image_that_is_too_small_is_refused_with_its_size(photos: Path) -> None:
    with pytest.raises(ValueError, match='an image of 16 x 76 HR px is too small, expected at least 33 x 33'):
        solve(build_solver(QUICK['dip']), lr_image(photos, 2)[:, :, :8], 2)


@pytest.mark.parametrize('word', ['dip', 'zssr'])
def test_a_reduction_that_the_taps_would_cut_is_refused(word: str, photos: Path) -> None:
    with pytest.raises(ValueError, match='a reduction at scale 8 needs a kernel_size of at least 39, found 21'):
        solve(build_solver(QUICK[word]), lr_image(photos, 8, height=24, width=24), 8)


def test_a_published_image_is_restored_in_its_place(photos: Path) -> None:
    """The two grids show the same scene, so a long enough fit puts it in the same place."""
    solver = build_solver('dip[steps=50,width=8]')
    enlarged = {}
    for alignment in ('centered', 'published'):
        lq = lr_image(photos, 4, alignment, 20, 18)
        sr = solve(solver, lq, 4, alignment=alignment).sr
        assert sr is not None
        enlarged[alignment] = sr[0], bicubic_upsample(lq[0], 4, alignment)
    for sr, bicubic in enlarged.values():
        inner = (slice(None), slice(12, -12), slice(12, -12))
        here = (sr[inner] - bicubic[inner]).square().mean()
        there = (sr.roll((3, 3), (1, 2))[inner] - bicubic[inner]).square().mean()
        assert here < there


def test_on_the_published_grid_the_lr_image_comes_back_of_a_lopsided_kernel(generator: torch.Generator) -> None:
    gt = torch.rand(1, 3, 64, 48, generator=generator)
    centered, published = torch.zeros(2, 21, 21)
    published[3:10, 4:18] = torch.rand(7, 14, generator=generator)
    published /= published.sum()
    centered[3:, 3:] = published[:18, :18]
    lq = blur_downsample(gt, published.view(1, -1, 1, 1), 4)

    @dataclass(frozen=True)
    class Oracle(Solver):
        word = 'oracle'
        per_pixel: bool = False

        def solve(self, problem: Problem) -> Solution:
            sr = torch.zeros(1, 3, *problem.size)
            sr[..., 3:67, 3:51] = gt
            shape = problem.lq.shape[-2:] if self.per_pixel else (1, 1)
            return Solution(sr, centered.view(1, -1, 1, 1).expand(-1, -1, *shape))

    for oracle in (Oracle(), Oracle(per_pixel=True)):
        solution = solve(oracle, lq, 4, alignment='published')
        assert solution.sr is not None and solution.field is not None
        assert torch.equal(solution.sr, gt)
        torch.testing.assert_close(blur_downsample(solution.sr, solution.field, 4), lq)


def test_an_unknown_alignment_is_refused(photos: Path) -> None:
    with pytest.raises(ValueError, match="alignment 'publisched' is not one of .*did you mean 'published'"):
        solve(build_solver('zssr[max_steps=1]'), lr_image(photos, 2), 2, alignment='publisched')
