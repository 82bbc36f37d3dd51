from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler, default_collate

from manet_basicsr.data import SVDegradationDataset
from manet_basicsr.data.images import BadSampleError
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.data.manifest import Manifest, ManifestEntry, write_manifest
from manet_basicsr.data.sampling import IterationSampler, SampleIndex, SeededDataset
from manet_basicsr.degradation import blur_downsample, invariant_protocol_parameters, protocol_parameters, quantize
from manet_basicsr.models.batches import sampling_grid

Sample = dict[str, Any]
RANDOM = {'type': 'invariant', 'variance': [0.7, 10]}
NINE = {'type': 'protocol', 'kind': 0}
NOISY = {'field': RANDOM, 'noise': [0, 15], 'jpeg': [70, 100]}


def options(root: Path | None, phase: str = 'val', **others: Any) -> dict[str, Any]:
    given: dict[str, Any] = {'name': 'photos', 'type': 'SVDegradationDataset', 'phase': phase, 'scale': 4}
    if root is not None:
        given |= {'dataroot_gt': str(root), 'degradation': NOISY}
    if phase == 'train':
        given |= {'gt_size': 48, 'use_hflip': True, 'use_rot': True}
    return given | others


def dataset(root: Path | None, phase: str = 'val', **others: Any) -> SVDegradationDataset:
    return SVDegradationDataset(options(root, phase, **others))


def assert_same(first: Sample, second: Sample, *, but: tuple[str, ...] = ()) -> None:
    assert first.keys() == second.keys()
    for key in first.keys() - set(but):
        if torch.is_tensor(first[key]):
            assert torch.equal(first[key], second[key]), key
        else:
            assert first[key] == second[key], key


@pytest.fixture(scope='module')
def small(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of 66x90, 80x50 and 41x97 px, no multiples of most scales."""
    folder = tmp_path_factory.mktemp('small')
    sizes = {'astronaut': (66, 90), 'chelsea': (80, 50), 'coffee': (41, 97)}
    for name, (height, width) in sizes.items():
        cv2.imwrite(str(folder / f'{name}.png'), cv2.imread(str(photos / f'{name}.png'))[50:, 50:][:height, :width])
    return folder


@pytest.fixture(scope='module')
def small_lmdbs(small: Path) -> dict[str, Path]:
    """The small photographs as an LMDB of PNG files, and of raw pixels."""
    roots = {kind: small.parent / f'{small.name}_{kind}.lmdb' for kind in ('png', 'raw')}
    for kind, root in roots.items():
        write_lmdb(small, root, raw=kind == 'raw')
    return roots


@pytest.fixture
def global_states() -> Callable[[], tuple[Any, ...]]:
    """Tells the state of Python's, numpy's and torch's global generators."""

    def states() -> tuple[Any, ...]:
        numpy_state = np.random.get_state(legacy=True)
        return random.getstate(), numpy_state[1].tobytes(), numpy_state[2:], torch.get_rng_state().numpy().tobytes()

    return states


# -------------------------------------------------------------------------------------------------------------- common


@pytest.mark.parametrize('phase', ['train', 'val', 'test'])
@pytest.mark.parametrize('scale', [2, 3, 4])
def test_a_sample_has_what_any_basicsr_model_wants(photos: Path, phase: str, scale: int) -> None:
    data = dataset(photos, phase, scale=scale)
    sample = data[1]
    height = 48 if phase == 'train' else 200 // scale * scale
    assert set(sample) == {'gt', 'lq', 'kernel', 'gt_path', 'lq_path'}
    assert sample['gt'].shape == (3, height, height)
    assert sample['lq'].shape == (3, height // scale, height // scale)
    assert sample['kernel'].shape == (441, 1, 1)
    assert sample['gt_path'] == sample['lq_path'] == str(photos / 'chelsea.png')
    for key in ('gt', 'lq', 'kernel'):
        assert sample[key].dtype == torch.float32
        assert sample[key].is_contiguous()
        assert 0 <= sample[key].min() <= sample[key].max() <= 1
    batch = default_collate([data[0], data[1]])
    assert batch['lq'].shape == (2, *sample['lq'].shape)
    assert batch['lq_path'] == [str(photos / 'astronaut.png'), str(photos / 'chelsea.png')]


def test_basicsr_builds_it_from_an_option_file_s_section_and_finds_the_options_on_it(photos: Path) -> None:
    opt = options(photos)
    data = build_dataset(opt)
    assert isinstance(data, SVDegradationDataset)
    assert data.opt['name'] == 'photos'
    assert opt == options(photos)


@pytest.mark.parametrize('phase', ['train', 'val'])
@pytest.mark.parametrize('kind', ['png', 'raw'])
def test_lmdb_raw_lmdb_and_disk_give_the_same_samples(
    small: Path, small_lmdbs: dict[str, Path], phase: str, kind: str
) -> None:
    settings = {'gt_size': 40} if phase == 'train' else {}
    disk = dataset(small, phase, io_backend={'type': 'disk'}, **settings)
    packed = dataset(small_lmdbs[kind], phase, io_backend={'type': 'lmdb'}, **settings)
    assert len(disk) == len(packed) == 3
    for index in range(3):
        seeded = SampleIndex(index, 100 + index)
        assert_same(disk[seeded], packed[seeded], but=('gt_path', 'lq_path'))
        assert packed[seeded]['gt_path'] == os.path.splitext(os.path.basename(disk[seeded]['gt_path']))[0]


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('field', [RANDOM, {'type': 'protocol', 'kind': 2}, {'type': 'smooth', 'variance': [0.7, 10]}])
def test_images_of_any_size_are_cut_to_a_multiple_of_the_scale(small: Path, scale: int, field: dict[str, Any]) -> None:
    for sample, (height, width) in zip(
        dataset(small, scale=scale, degradation={'field': field}), [(66, 90), (80, 50), (41, 97)], strict=True
    ):
        lr_size = (height // scale, width // scale)
        assert sample['lq'].shape == (3, *lr_size)
        assert sample['gt'].shape == (3, lr_size[0] * scale, lr_size[1] * scale)
        assert sample['kernel'].shape[1:] in [(1, 1), lr_size]
        lq = quantize(blur_downsample(sample['gt'][None], sample['kernel'][None], scale)[0])
        assert torch.equal(sample['lq'], lq)


def test_a_dataset_can_be_iterated_and_has_no_samples_beyond_its_length(small: Path) -> None:
    data = dataset(small)
    assert len(list(data)) == len(data) == 3
    for index in (3, -1):
        with pytest.raises(IndexError, match=f'sample {index} of 3'):
            data[index]


def test_sixteen_bit_hr_images_keep_their_depth(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (48, 48, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / 'deep.png'), deep)
    gt = dataset(tmp_path)[0]['gt']
    assert len(gt.unique()) > 256
    assert np.array_equal((gt * 65535).round().numpy(), deep[..., ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize('mode', ['L', '1', 'P', 'RGBA'])
def test_images_of_every_mode_give_three_channels(photos: Path, tmp_path: Path, mode: str) -> None:
    image = Image.open(photos / 'coffee.png')
    (image.quantize(32) if mode == 'P' else image.convert(mode)).save(tmp_path / 'image.png')
    write_lmdb(tmp_path, tmp_path / 'images.lmdb', raw=True)
    samples = [dataset(root)[0] for root in (tmp_path, tmp_path / 'images.lmdb')]
    assert samples[0]['gt'].shape == (3, 200, 200)
    assert_same(*samples, but=('gt_path', 'lq_path'))


def test_meta_info_file_chooses_the_images(photos: Path, photos_lmdb: Path, tmp_path: Path) -> None:
    (tmp_path / 'chosen.txt').write_text('rocket.png (200,200,3) 1\ncoffee.png (200,200,3) 1\n', encoding='utf-8')
    for root in (photos, photos_lmdb):
        data = dataset(root, meta_info_file=str(tmp_path / 'chosen.txt'))
        assert [Path(sample['gt_path']).stem for sample in data] == ['rocket', 'coffee']


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize('field', [RANDOM, {'type': 'protocol', 'kind': 5}, {'type': 'smooth', 'variance': [0.7, 10]}])
def test_the_kernel_of_a_training_sample_is_the_one_behind_its_lq(photos: Path, field: dict[str, Any]) -> None:
    data = dataset(photos, 'train', degradation={'field': field})
    for number in range(24):  # all flips and turns
        sample = data[SampleIndex(number % 4, number)]
        lq = blur_downsample(sample['gt'][None], sample['kernel'][None], 4)[0]
        # The kernel of a flipped or turned crop that was degraded before would miss by many levels.
        assert (sample['lq'] - lq).abs().max() <= 0.501 / 255


def test_training_crops_lie_everywhere_in_the_image_flipped_and_turned(tmp_path: Path) -> None:
    # Red says the row, green the column.
    ramp = np.zeros((60, 52, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(60)[:, None], np.arange(52)
    Image.fromarray(ramp).save(tmp_path / 'ramp.png')
    data = dataset(tmp_path, 'train')
    crops = [(data[SampleIndex(0, seed)]['gt'] * 255).round() for seed in range(300)]
    corners = {(int(crop[0].min()), int(crop[1].min())) for crop in crops}
    assert {row for row, _ in corners} == set(range(13))
    assert {column for _, column in corners} == set(range(5))
    orientations = {tuple((crop[:2, 0, 1] - crop[:2, 0, 0]).tolist() + (crop[:2, 1, 0] - crop[:2, 0, 0]).tolist())
                    for crop in crops}  # fmt: skip
    assert len(orientations) == 8


@pytest.mark.parametrize(('hflip', 'rot', 'expected'), [(False, False, 1), (True, False, 2), (False, True, 4)])
def test_flips_and_turns_are_those_asked_for(tmp_path: Path, hflip: bool, rot: bool, expected: int) -> None:
    ramp = np.zeros((48, 48, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(48)[:, None], np.arange(48)
    Image.fromarray(ramp).save(tmp_path / 'ramp.png')
    data = dataset(tmp_path, 'train', use_hflip=hflip, use_rot=rot)
    corners = {tuple((data[SampleIndex(0, seed)]['gt'][:2, :1, :2] * 255).flatten().tolist()) for seed in range(60)}
    assert len(corners) == expected


def test_an_image_smaller_than_gt_size_is_named_with_both_sizes(small: Path, small_lmdbs: dict[str, Path]) -> None:
    expected = {small: r'coffee\.png: 97x41 px is smaller than gt_size 48'}
    expected |= {root: rf'^{root}: coffee: 97x41 px is smaller than gt_size 48' for root in small_lmdbs.values()}
    for root, message in expected.items():
        with pytest.raises(BadSampleError, match=message):
            dataset(root, 'train')[2]


def test_an_error_in_a_worker_still_names_the_image(small: Path) -> None:
    loader = DataLoader(dataset(small, 'train'), sampler=[2], num_workers=1)
    with pytest.raises(BadSampleError, match=r'coffee\.png: 97x41 px is smaller than gt_size 48'):
        next(iter(loader))


@pytest.mark.parametrize('content', [b'', b'garbage', None])
@pytest.mark.parametrize('phase', ['train', 'val'])
def test_a_damaged_image_is_named(photos: Path, tmp_path: Path, phase: str, content: bytes | None) -> None:
    whole = (photos / 'rocket.png').read_bytes()
    (tmp_path / 'broken.png').write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(BadSampleError, match=r'broken\.png: damaged'):
        dataset(tmp_path, phase)[0]


def test_an_image_without_an_lr_pixel_is_named(tmp_path: Path) -> None:
    Image.new('RGB', (50, 3)).save(tmp_path / 'line.png')
    with pytest.raises(BadSampleError, match=r'line\.png: 50x3 px is smaller than the scale 4'):
        dataset(tmp_path)[0]


# ---------------------------------------------------------------------------------------------------------- randomness


def test_validation_is_the_same_in_any_order_with_any_workers_and_global_state(small_lmdbs: dict[str, Path]) -> None:
    data = dataset(small_lmdbs['png'])
    expected = list(data)
    torch.manual_seed(123)
    random.seed(5)
    for index in (2, 0, 1, 2):
        assert_same(data[index], expected[index])
    for workers in (0, 1, 2):
        loader = DataLoader(data, batch_size=None, num_workers=workers, sampler=RandomSampler(data))
        samples = {sample['gt_path']: sample for sample in loader}
        for sample in expected:
            assert_same(samples[sample['gt_path']], sample)


def test_validation_ignores_the_seed_that_a_training_sampler_gives(small: Path) -> None:
    data = dataset(small)
    assert_same(data[SampleIndex(1, 99)], data[1])


def test_validation_draws_another_kernel_and_other_noise_for_each_image(small: Path, tmp_path: Path) -> None:
    for name in 'abc':
        (tmp_path / f'{name}.png').write_bytes((small / 'coffee.png').read_bytes())
    kernels = torch.stack([sample['kernel'] for sample in dataset(tmp_path)])
    assert len(kernels.unique(dim=0)) == 3
    fixed = {'field': {'type': 'fixed', 'variances': [6, 1]}, 'noise': [15, 15]}
    images = torch.stack([sample['lq'] for sample in dataset(tmp_path, degradation=fixed)])
    assert len(images.unique(dim=0)) == 3


@pytest.mark.parametrize('phase', ['train', 'val'])
def test_no_global_random_state_is_used(photos: Path, phase: str, global_states: Callable[[], tuple[Any, ...]]) -> None:
    before = global_states()
    data = dataset(photos, phase)
    for index in range(3):
        data[SampleIndex(index, index)]
    assert global_states() == before


def test_training_draws_depend_on_the_seed_of_the_sample_alone(photos: Path) -> None:
    data = dataset(photos, 'train')
    assert_same(data[SampleIndex(1, 7)], data[SampleIndex(1, 7)])
    kernels = torch.stack([data[SampleIndex(1, seed)]['kernel'] for seed in range(20)])
    assert len(kernels.unique(dim=0)) == 20


def test_under_basicsr_s_own_train_loop_no_kernel_repeats_over_epochs_and_workers(photos: Path) -> None:
    # A stock loader passes plain indices; its base seed changes with each epoch.
    loader = DataLoader(dataset(photos, 'train'), batch_size=2, shuffle=True, num_workers=2)
    kernels = torch.cat([batch['kernel'] for _ in range(4) for batch in loader])
    assert len(kernels.unique(dim=0)) == len(kernels) == 16


@pytest.mark.filterwarnings('ignore:This DataLoader will create 3 worker')
def test_no_sample_repeats_over_epochs_and_workers_and_any_number_of_workers_gives_one_run(photos: Path) -> None:
    runs = []
    for workers in (0, 1, 3):
        data = SeededDataset(dataset(photos, 'train'))
        sampler = IterationSampler(4, 3, 8, seed=10)
        loader = DataLoader(data, batch_size=3, sampler=sampler, num_workers=workers)
        validation = DataLoader(dataset(photos), num_workers=workers)
        batches = []
        for batch in loader:
            batches.append(batch)
            if len(batches) == workers + 1:  # at another iteration each time
                next(iter(validation))
                torch.rand(1), random.random(), np.random.rand()
        runs.append(batches)
    for batches in runs[1:]:
        for expected, found in zip(runs[0], batches, strict=True):
            assert_same(expected, found)
    kernels = torch.cat([batch['kernel'] for batch in runs[0]])
    assert len(kernels.unique(dim=0)) == len(kernels) == 24
    resumed = IterationSampler(4, 3, 8, seed=10, start_iter=5)
    for expected, found in zip(
        runs[0][5:], DataLoader(SeededDataset(dataset(photos, 'train')), 3, sampler=resumed), strict=True
    ):
        assert_same(expected, found)


def test_one_lmdb_serves_training_and_two_validations_at_once(photos_lmdb: Path) -> None:
    train = dataset(photos_lmdb, 'train')
    first = dataset(photos_lmdb, degradation={'field': NINE})
    second = dataset(photos_lmdb, degradation={'field': {'type': 'protocol', 'kind': 5}})
    expected = train[SampleIndex(0, 0)], first[3], second[3]
    sampler = IterationSampler(4, 2, 6)
    loader = iter(DataLoader(SeededDataset(train), 2, sampler=sampler, num_workers=2, persistent_workers=True))
    next(loader)
    validations = [DataLoader(data, batch_size=None, num_workers=1, sampler=[3]) for data in (first, second)]
    for validation, sample in zip(validations, expected[1:], strict=True):
        assert_same(next(iter(validation)), sample)
        assert next(loader)['gt'].shape == (2, 3, 48, 48)
    assert_same(train[SampleIndex(0, 0)], expected[0])


# ------------------------------------------------------------------------------------------------------------ protocol


@pytest.mark.parametrize('as_lmdb', [False, True])
def test_the_invariant_protocol_gives_nine_named_samples_an_image(
    photos: Path, photos_lmdb: Path, as_lmdb: bool
) -> None:
    root = photos_lmdb if as_lmdb else photos
    data = dataset(root, degradation={'field': NINE})
    assert len(data) == 9 * 4
    samples = [data[index] for index in range(9, 18)]
    suffix, folder = ('', '') if as_lmdb else ('.png', f'{photos}/')
    assert [sample['lq_path'] for sample in samples] == [f'{folder}chelsea_k{k}{suffix}' for k in range(9)]
    assert {sample['gt_path'] for sample in samples} == {f'{folder}chelsea{suffix}'}
    for sample, (first, second, angle) in zip(samples, invariant_protocol_parameters(4).tolist(), strict=True):
        fixed = {'field': {'type': 'fixed', 'variances': [first, second], 'angle': angle}}
        assert_same(sample, dataset(root, degradation=fixed)[1], but=('lq_path',))


def test_the_invariant_protocol_of_a_name_with_dots_keeps_the_name(small: Path, tmp_path: Path) -> None:
    (tmp_path / 'a.b').mkdir()
    (tmp_path / 'a.b' / 'baby.v2.png').write_bytes((small / 'coffee.png').read_bytes())
    data = dataset(tmp_path / 'a.b', degradation={'field': NINE})
    assert data[8]['lq_path'] == str(tmp_path / 'a.b' / 'baby.v2_k8.png')


@pytest.mark.parametrize('kind', [1, 2, 3, 4, 5, 6])
def test_the_variant_protocol_gives_a_field_on_the_lr_grid(photos: Path, kind: int) -> None:
    sample = dataset(photos, degradation={'field': {'type': 'protocol', 'kind': kind}})[0]
    assert sample['kernel'].shape == (441, 50, 50)
    lq = quantize(blur_downsample(sample['gt'][None], sample['kernel'][None], 4)[0])
    assert torch.equal(sample['lq'], lq)


# ------------------------------------------------------------------------------------------------------ LR images given


@pytest.fixture
def pairs(small: Path, tmp_path: Path) -> Path:
    """LR images of the small photographs at x4, of one name each, below ``tmp_path``."""
    folder = tmp_path / 'lq'
    folder.mkdir()
    for sample in dataset(small):
        image = (sample['lq'] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(image).save(folder / Path(sample['lq_path']).name)
    return folder


@pytest.mark.parametrize('as_lmdb', [False, True])
def test_lr_images_alone_are_served_as_they_are(pairs: Path, small: Path, as_lmdb: bool) -> None:
    root = pairs.with_suffix('.lmdb') if as_lmdb else pairs
    if as_lmdb:
        write_lmdb(pairs, root)
    data = dataset(None, 'test', dataroot_lq=str(root))
    assert len(data) == 3
    for sample, expected in zip(data, dataset(small), strict=True):
        assert set(sample) == {'lq', 'lq_path'}
        assert torch.equal(sample['lq'], expected['lq'])
        assert Path(sample['lq_path']).stem == Path(expected['lq_path']).stem


@pytest.mark.parametrize('gt_lmdb', [False, True])
def test_pairs_of_one_name_are_served_with_gt_cut_to_the_lr_image(
    pairs: Path, small: Path, small_lmdbs: dict[str, Path], gt_lmdb: bool
) -> None:
    data = dataset(None, 'test', dataroot_lq=str(pairs), dataroot_gt=str(small_lmdbs['png'] if gt_lmdb else small))
    for sample, expected in zip(data, dataset(small), strict=True):
        assert set(sample) == {'lq', 'lq_path', 'gt', 'gt_path'}
        assert torch.equal(sample['lq'], expected['lq'])
        assert torch.equal(sample['gt'], expected['gt'])


def test_meta_info_file_chooses_among_pairs(pairs: Path, small: Path, tmp_path: Path) -> None:
    (tmp_path / 'chosen.txt').write_text('coffee.png\n', encoding='utf-8')
    listed = str(tmp_path / 'chosen.txt')
    data = dataset(None, 'test', dataroot_lq=str(pairs), dataroot_gt=str(small), meta_info_file=listed)
    assert [sample['gt_path'] for sample in data] == [str(small / 'coffee.png')]


def manifest_of(pairs: Path, **changes: Any) -> Path:
    sizes = {'astronaut': (64, 88), 'chelsea': (80, 48), 'coffee': (40, 96)}
    images = {name: ManifestEntry(name, protocol_parameters(3, *size, 4)) for name, size in sizes.items()}
    path = pairs.parent / 'kernels.json'
    manifest = Manifest(scale=4, kernel_size=15, alignment='published', images=images)
    write_manifest(dataclasses.replace(manifest, **changes), path)
    return path


def test_a_manifest_gives_pairs_their_true_kernels(pairs: Path, small: Path) -> None:
    kernels = str(manifest_of(pairs))
    data = dataset(None, 'test', dataroot_lq=str(pairs), dataroot_gt=str(small), kernels=kernels)
    drawn = {'field': {'type': 'protocol', 'kind': 3}, 'kernel_size': 15, 'alignment': 'published'}
    for sample, expected in zip(data, dataset(small, degradation=drawn), strict=True):
        assert torch.equal(sample['kernel'], expected['kernel'])
        assert torch.equal(sample['gt'], expected['gt'])


def test_the_grid_of_a_set_is_that_of_its_manifest_or_its_degradation(pairs: Path, small: Path) -> None:
    kernels = str(manifest_of(pairs))
    both = {'dataroot_lq': str(pairs), 'dataroot_gt': str(small)}
    assert sampling_grid(dataset(None, 'test', **both, kernels=kernels)) == 'published'
    assert sampling_grid(dataset(small, degradation={'field': {'type': 'protocol', 'kind': 3}})) == 'centered'
    assert sampling_grid(dataset(None, 'test', **both)) == 'unknown'


def test_a_manifest_that_does_not_fit_is_an_error_that_names_it(pairs: Path, small: Path) -> None:
    both = {'dataroot_lq': str(pairs), 'dataroot_gt': str(small)}
    with pytest.raises(ValueError, match=r'kernels\.json is for scale 2, found scale: 4'):
        dataset(None, 'test', **both, kernels=str(manifest_of(pairs, scale=2)))
    with pytest.raises(ValueError, match=r"astronaut\.png: 'astronaut' is not in .*kernels\.json"):
        dataset(None, 'test', **both, kernels=str(manifest_of(pairs, images={})))
    small_field = {name: ManifestEntry(name, torch.ones(2, 1, 3)) for name in ('astronaut', 'chelsea', 'coffee')}
    data = dataset(None, 'test', **both, kernels=str(manifest_of(pairs, images=small_field)))
    with pytest.raises(BadSampleError, match=r"kernels\.json, 'astronaut': parameters of 2 x 1 blocks .* do not cover"):
        data[0]


def test_an_lr_image_without_its_hr_image_is_an_error_at_once(pairs: Path, small: Path) -> None:
    (pairs / 'extra.png').write_bytes((pairs / 'coffee.png').read_bytes())
    with pytest.raises(ValueError, match=rf"extra\.png: no image 'extra' in {small}"):
        dataset(None, 'test', dataroot_lq=str(pairs), dataroot_gt=str(small))


def test_a_pair_of_another_scale_is_an_error_with_both_names_and_sizes(pairs: Path, small: Path) -> None:
    data = dataset(None, 'test', scale=2, dataroot_lq=str(pairs), dataroot_gt=str(small))
    message = r'lq/astronaut\.png has 22x16 px, .*astronaut\.png 90x66: expected the scale 2'
    with pytest.raises(BadSampleError, match=message):
        data[0]


# ------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'phase': 'training'}, "phase: found 'training', expected one of train, val, test"),
        ({'phase': None}, 'phase: found None'),
        ({'scale': 0}, 'scale: found 0, expected a whole number'),
        ({'scale': 4.0}, r'scale: found 4\.0'),
        ({'scale': True}, 'scale: found True'),
        ({'scale': None}, 'scale: found None'),
        ({'dataroot_gt': None}, 'dataroot_gt: missing; expected dataroot_gt, dataroot_lq or both'),
        ({'dataroot_gt': ['a', 'b']}, r"dataroot_gt: found \['a', 'b'\], expected one path"),
        ({'meta_info_file': 3}, 'meta_info_file: found 3, expected one path'),
        ({'io_backend': {'type': 'memcached'}}, 'io_backend: found .*, expected {type: disk} or {type: lmdb}'),
        ({'io_backend': 'lmdb'}, "io_backend: found 'lmdb'"),
        ({'degradation': None}, 'degradation: missing'),
        ({'degradation': {}}, r'degradation\.field: missing, expected a section such as'),
        ({'degradation': 'none'}, "degradation: found 'none', expected a section"),
        ({'dataroot_lq': 'lq'}, 'degradation: given beside dataroot_lq'),
        ({'kernels': 'kernels.json'}, 'kernels: a manifest needs both dataroot_gt and dataroot_lq'),
        ({'degradation': {**NOISY, 'noise': [15, 0]}}, r'degradation\.noise: found \[15, 0\]'),
        ({'degradation': {**NOISY, 'jpeg': [0, 50]}}, r'degradation\.jpeg: found \[0, 50\]'),
        ({'degradation': {**NOISY, 'kernel_size': 20}}, r'degradation\.kernel_size: found 20, expected an odd'),
        ({'degradation': {**NOISY, 'kernel_size': 3}}, r'degradation\.kernel_size must be .* at least the scale \(4\)'),
        ({'degradation': {**NOISY, 'fields': {}}}, "degradation key 'fields' is not one of .*did you mean 'field'"),
        ({'degradation': {'field': {'type': 'x'}}}, r"degradation\.field 'x' is not one of bank, bicubic, collage"),
        ({'degradation': {'field': {**NINE, 'kin': 1}}}, r"degradation\.field: unknown key 'kin'"),
        ({'degradation': {'field': {'type': 'protocol', 'kind': 7}}}, r'degradation\.field\.kind must be .* found 7'),
        ({'gt_size': 50}, 'gt_size: found 50, expected HR px, a multiple of the scale 4'),
        ({'gt_size': 0}, 'gt_size: found 0'),
        ({'gt_size': None}, 'gt_size: found None'),
        ({'gt_size': '48'}, "gt_size: found '48'"),
        ({'degradation': {'field': NINE}}, r'degradation\.field: protocol kind 0 is for tests'),
        ({'degradation': None, 'dataroot_lq': 'lq'}, 'dataroot_gt: training degrades HR images on the fly'),
    ],
)
def test_a_mistake_in_the_options_says_what_was_found_and_expected(
    photos: Path, changes: dict[str, Any], message: str
) -> None:
    opt = {**options(photos, 'train'), **changes}
    for check in (SVDegradationDataset.check, SVDegradationDataset):
        with pytest.raises(ValueError, match=f'^{message}'):
            check(opt)


def test_a_check_opens_nothing() -> None:
    SVDegradationDataset.check(options(Path('nowhere.lmdb'), 'train'))
    SVDegradationDataset.check(options(None, 'test', dataroot_lq='nowhere'))
    SVDegradationDataset.check(options(None, 'test', dataroot_lq='no', dataroot_gt='where', kernels='kernels.json'))


def test_a_dataroot_that_does_not_exist_is_named() -> None:
    for root in ('nowhere', 'nowhere.lmdb'):
        with pytest.raises(FileNotFoundError, match=f'^{root} is not'):
            dataset(Path(root))
