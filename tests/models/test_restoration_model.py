"""The model under all three stages: precision, accumulation, EMA, and the package's one validation loop."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY, METRIC_REGISTRY
from torch import Tensor, nn

from manet_basicsr import load_field
from manet_basicsr.metrics.kernel_metric import make_lr_images
from manet_basicsr.options.errors import OptionError
from tests import shortened


@ARCH_REGISTRY.register()
class NearestNet(nn.Module):
    """A generator for the tests: nearest upsampling times a weight."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, lq: Tensor) -> Tensor:
        return self.weight * nn.functional.interpolate(lq, scale_factor=self.scale)


@ARCH_REGISTRY.register()
class NormalisedNet(NearestNet):
    """A generator with a normalisation, whose running means are buffers."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, lq: Tensor) -> Tensor:
        return super().forward(self.norm(lq))


@METRIC_REGISTRY.register()
def first_pixel(img: np.ndarray, **_unused: Any) -> float:
    """A metric that needs no ground truth."""
    return float(img[0, 0, 0])


@METRIC_REGISTRY.register()
def always_exact(img: np.ndarray, img2: np.ndarray, **_unused: Any) -> float:
    """A metric of an exact match."""
    return float('inf')


def options(tmp_path: Path, photos: Path, *more: str, job: str = 'BlindSR_stage3') -> dict[str, Any]:
    """Resolve a job's shortened training file."""
    file = shortened.option_file('train', job, 4)
    return shortened.resolved(file, [*shortened.train_entries(job, photos), *more], tmp_path)


def random_batch(size: int = 4) -> dict[str, Any]:
    """Make a batch of noise: LR 12x12, HR 48x48, delta kernels."""
    kernel = torch.zeros(size, 441, 1, 1)
    kernel[:, 220] = 1
    return {
        'lq': torch.rand(size, 3, 12, 12),
        'gt': torch.rand(size, 3, 48, 48),
        'kernel': kernel,
        'lq_path': ['noise'] * size,
        'gt_path': ['noise'] * size,
    }


def one_step(opt: dict[str, Any], batch: dict[str, Any]) -> Any:
    """Build a model from one seed and do one step."""
    torch.manual_seed(0)
    model = build_model(opt)
    model.feed_data(batch)
    model.optimize_parameters(1)
    return model


@pytest.mark.parametrize('job', shortened.JOBS)
def test_accumulation_gives_the_gradients_of_the_whole_batch(job: str, photos: Path, tmp_path: Path) -> None:
    batch = random_batch()
    whole, parts = (
        one_step(options(tmp_path, photos, f'train:accumulate={number}', job=job), batch) for number in (1, 2)
    )
    for first, second in zip(whole.net_g.parameters(), parts.net_g.parameters(), strict=True):
        if first.requires_grad:
            # float32 sums in another order.
            torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-7)
    assert whole.get_current_log() == pytest.approx(parts.get_current_log(), rel=1e-5)


@pytest.mark.parametrize('job', shortened.JOBS)
@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
def test_mixed_precision_stays_finite_and_near_float32(job: str, amp: str, photos: Path, tmp_path: Path) -> None:
    batch = random_batch()
    full = one_step(options(tmp_path, photos, job=job), batch).get_current_log()
    mixed = one_step(options(tmp_path, photos, f'train:amp={amp}', job=job), batch).get_current_log()
    # bfloat16 keeps 8 bits of a number: 0.4 % a rounding, less in a mean of thousands.
    assert mixed == pytest.approx(full, rel=2e-2)


def test_an_unknown_precision_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"train\.amp: found 'int8', expected one of"):
        options(tmp_path, photos, 'train:amp=int8')


def test_a_batch_that_cannot_be_cut_equally_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r'train\.accumulate: found 3, expected a divisor'):
        options(tmp_path, photos, 'train:accumulate=3')


def test_compiled_and_channels_last_networks_keep_their_keys(photos: Path, tmp_path: Path) -> None:
    plain = build_model(options(tmp_path, photos))
    fast = build_model(options(tmp_path, photos, 'train:compile=true', 'train:channels_last=true'))
    assert fast.net_g.state_dict().keys() == plain.net_g.state_dict().keys()


@pytest.mark.parametrize(
    'job',
    ['MANet_stage1', *(pytest.param(job, marks=pytest.mark.slow) for job in ('SFTRRDB_stage2', 'BlindSR_stage3'))],
)
def test_a_compiled_network_trains_alike_and_is_not_compiled_anew_for_each_image(
    job: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    # The graphs are what they are with any backend; the shipped one takes half a minute to build them.
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, 'compile', lambda net, mode: compile_module(net, backend=count))
    batch = random_batch()
    plain = one_step(options(tmp_path, photos, job=job), batch)
    model = one_step(options(tmp_path, photos, 'train:compile=true', job=job), batch)
    assert graphs
    assert model.get_current_log() == pytest.approx(plain.get_current_log(), rel=1e-5)
    compiled = len(graphs)
    for side in (9, 16):
        model.feed_data({**random_batch(1), 'lq': torch.rand(1, 3, side, side)})
        model.test()
    assert len(graphs) == compiled


def test_validation_uses_the_ema_network_and_leaves_training_mode_as_it_was(photos: Path, tmp_path: Path) -> None:
    model = one_step(options(tmp_path, photos, 'train:ema_decay=0.5'), random_batch())
    with torch.no_grad():
        for parameter in model.net_g_ema.parameters():
            parameter.zero_()
    model.test()
    assert model.result['sr'].abs().max() == 0
    assert model.net_g.training


def test_averaged_weights_forget_the_beginning_of_a_training(photos: Path, tmp_path: Path) -> None:
    model = build_model(options(tmp_path, photos, 'train:ema_decay=0.999'))
    weight, averaged = next(model.net_g.parameters()), next(model.net_g_ema.parameters())
    expected = weight.detach().clone()
    for iteration in (*range(1, 31), 100_000):
        decay = min(0.999, (1 + iteration) / (10 + iteration))
        model.feed_data(random_batch())
        model.optimize_parameters(iteration)
        expected = decay * expected + (1 - decay) * weight.detach()
        torch.testing.assert_close(averaged.detach(), expected)


def test_the_averaged_network_follows_buffers(photos: Path, tmp_path: Path) -> None:
    network = 'network_g={type: NormalisedNet, scale: 4}'
    model = one_step(options(tmp_path, photos, network, 'train:ema_decay=0.999'), random_batch())
    assert model.net_g.norm.num_batches_tracked == model.net_g_ema.norm.num_batches_tracked == 1
    assert model.net_g.norm.running_mean.min() > 0
    assert torch.equal(model.net_g.norm.running_mean, model.net_g_ema.norm.running_mean)


@pytest.mark.parametrize('missing', ['gt', 'kernel'])
def test_a_batch_without_what_a_loss_needs_names_the_sample(missing: str, photos: Path, tmp_path: Path) -> None:
    batch = {key: value for key, value in random_batch().items() if key != missing}
    with pytest.raises(ValueError, match=f"noise: its dataset gives no '{missing}', which a loss on"):
        one_step(options(tmp_path, photos, job='MANet_stage1' if missing == 'kernel' else 'BlindSR_stage3'), batch)


def test_the_estimators_field_reaches_the_metrics_of_stage_3(photos: Path, tmp_path: Path) -> None:
    model = one_step(options(tmp_path, photos), random_batch(1))
    model.test()
    known = model.known_of_image()
    assert known.keys() == {'scale', 'img', 'img2', 'gt', 'field', 'field_gt'}
    assert known['field'].shape == (1, 441, 12, 12)


def nearest_model(tmp_path: Path, photos: Path, *more: str) -> Any:
    """Build a RestorationModel around NearestNet with four metrics."""
    metrics = (
        'val:metrics={psnr: {type: calculate_psnr, crop_border: 4}, exact: {type: always_exact}, '
        'first: {type: first_pixel}, kernel: {type: calculate_kernel_psnr}}'
    )
    return build_model(options(tmp_path, photos, 'network_g={type: NearestNet, scale: 4}', metrics, *more))


def validate(model: Any, dataset_opt: dict[str, Any], save_img: bool = False) -> None:
    """Validate a model on a set."""
    full = {'name': 'set', 'type': 'SVDegradationDataset', 'phase': 'val', 'scale': 4, **dataset_opt}
    model.validation(build_dataloader(build_dataset(full), full), 7, None, save_img)


def test_results_of_one_name_in_two_subfolders_are_two_files(photos: Path, tmp_path: Path) -> None:
    for folder in ('a', 'b'):
        (tmp_path / 'set' / folder).mkdir(parents=True)
        image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        cv2.imwrite(str(tmp_path / 'set' / folder / '1.png'), image)
    (tmp_path / 'names.txt').write_text('a/1.png\nb/1.png\n')
    model = nearest_model(tmp_path, photos)
    images = {'meta_info_file': str(tmp_path / 'names.txt')}
    degradation = {'field': {'type': 'protocol', 'kind': 1}}
    for given in (
        {'dataroot_lq': str(tmp_path / 'set')},
        {'dataroot_gt': f'{tmp_path}/set/', 'degradation': degradation},
    ):
        visual = tmp_path / next(iter(given))
        model.opt['path']['visualization'] = str(visual)
        validate(model, {**given, **images}, save_img=True)
        assert sorted(file.name for file in visual.rglob('*.png')) == ['a_1_7.png', 'b_1_7.png']


def test_metrics_without_their_ground_truth_are_skipped_saying_so(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    model = nearest_model(tmp_path, photos)
    with caplog.at_level(logging.INFO, logger='basicsr'):
        validate(model, {'dataroot_lq': str(photos)})
    assert set(model.metric_results) == {'first'}
    assert 'psnr skipped for 4 of 4 images without what it compares' in caplog.text


def test_the_lr_metrics_of_an_image_blur_it_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return make_lr_images(*arguments)

    monkeypatch.setattr('manet_basicsr.models.scoring.make_lr_images', counted)
    monkeypatch.setattr('manet_basicsr.metrics.kernel_metric.make_lr_images', counted)
    model = build_model(options(tmp_path, photos, job='MANet_stage1'))
    degradation = {'field': {'type': 'protocol', 'kind': 1}}
    validate(model, {'dataroot_gt': str(photos), 'degradation': degradation})
    assert {'lr_psnr', 'lr_ssim'} < set(model.metric_results)
    assert len(calls) == 4  # images


def test_an_exact_match_enters_averages_as_100_db(photos: Path, tmp_path: Path) -> None:
    model = nearest_model(tmp_path, photos)
    validate(model, {'dataroot_gt': str(photos), 'degradation': {'field': {'type': 'protocol', 'kind': 1}}})
    assert model.metric_results['exact'] == 100
    assert set(model.metric_results) == {'psnr', 'exact', 'first'}
    assert model.best_metric_results['set']['psnr']['iter'] == 7


def test_validation_leaves_the_random_generator_as_it_was(photos: Path, tmp_path: Path) -> None:
    model = nearest_model(tmp_path, photos)
    before = torch.get_rng_state()
    validate(model, {'dataroot_lq': str(photos)})
    assert torch.equal(torch.get_rng_state(), before)


def test_images_are_saved_in_a_folder_for_each_set_and_image(photos: Path, tmp_path: Path) -> None:
    opt = options(tmp_path, photos, 'network_g={type: NearestNet, scale: 4}')
    model = build_model(opt)
    validate(model, {'dataroot_lq': str(photos)}, save_img=True)
    assert (Path(opt['path']['visualization']) / 'set/chelsea/chelsea_7.png').is_file()


def test_stage_1_saves_fields_that_load_again_and_a_picture(photos: Path, tmp_path: Path) -> None:
    opt = options(tmp_path, photos, job='MANet_stage1')
    model = build_model(opt)
    (tmp_path / 'lr').mkdir()
    cv2.imwrite(str(tmp_path / 'lr/chelsea.png'), cv2.imread(str(photos / 'chelsea.png'))[:60, :70])
    validate(model, {'dataroot_lq': str(tmp_path / 'lr')}, save_img=True)
    folder = Path(opt['path']['visualization']) / 'set/chelsea'
    saved = load_field(folder / 'chelsea_7.npz')
    assert (saved.kernel_size, saved.scale, saved.alignment) == (21, 4, 'unknown')
    assert saved.field.shape == (1, 441, 60, 70)
    torch.testing.assert_close(saved.field.sum(1), torch.ones(1, 60, 70))
    assert (folder / 'chelsea_7.png').is_file()


def test_stage_2_without_kernels_says_what_to_use(photos: Path, tmp_path: Path) -> None:
    model = build_model(options(tmp_path, photos, job='SFTRRDB_stage2'))
    with pytest.raises(ValueError, match='needs a set with kernels'):
        validate(model, {'dataroot_lq': str(photos)})
