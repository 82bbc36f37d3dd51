"""The evaluation: the same numbers by every road, nothing scored twice, nothing mixed, nothing lost."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import torch
import yaml
from basicsr.archs import build_network

from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.data.testset import Corruption, write_testsets
from manet_basicsr.degradation import blur_downsample, protocol_field
from manet_basicsr.degradation.sets import SETS, field_of, parse_corruption
from manet_basicsr.evaluation import (
    Evaluation,
    Method,
    build_methods,
    evaluate,
    plan_conditions,
    summarize,
    write_tables,
    zero_shot,
)
from manet_basicsr.evaluation.methods import GivenKernels, OptionFile, bicubic_upsample
from manet_basicsr.evaluation.records import METRICS, RecordFile
from manet_basicsr.options import plugins
from manet_basicsr.options.errors import OptionError
from manet_basicsr.test import test_pipeline
from manet_basicsr.weights import shipped_weights
from manet_basicsr.zero_shot import solve
from tests import shortened

# What tables show; the roads share their code, so they agree to rounding.
DECIBELS = 0.01


@pytest.fixture(scope='module')
def images(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs of 96x112 and 130x97 px (no multiple of 4)."""
    folder = tmp_path_factory.mktemp('evaluation') / 'two'
    folder.mkdir()
    for name, (height, width) in (('astronaut', (96, 112)), ('chelsea', (130, 97))):
        cv2.imwrite(str(folder / f'{name}.png'), cv2.imread(str(photos / f'{name}.png'))[:height, :width])
    return folder


def small_file(job: str, folder: Path, scale: int = 4, seed: int = 0, **changes: Any) -> Path:
    """A shipped test file of a small network with random weights, as an option file of its own."""
    source = shortened.option_file('test', job, scale)
    options = shortened.forced(source, shortened.small_network(job))
    torch.manual_seed(seed)
    torch.save({'params': build_network(options['network_g']).state_dict()}, folder / f'{job}_x{scale}.pth')
    options['path']['pretrain_network_g'] = str(folder / f'{job}_x{scale}.pth')
    options.update(changes)
    (folder / f'{job}_x{scale}.yml').write_text(yaml.safe_dump(options), encoding='utf-8')
    return folder / f'{job}_x{scale}.yml'


def run(images: Path, record: Path, words: list[str], generators: list[str] | None = None, **plan: Any) -> Evaluation:
    plan = {'sets': ['type4'], **plan}
    return evaluate(plan_conditions([images], **plan), build_methods(words, generators or []), record)


def means(evaluation: Evaluation, method: str) -> dict[str, dict[str, Any]]:
    """The summary of one method by the name of the set."""
    return {row['set']: row for row in summarize(evaluation) if row['method'] == method}


# --------------------------------------------------------------------------------------- the same numbers by every road


@pytest.mark.parametrize(
    ('job', 'alignment'),
    [
        ('MANet_stage1', 'published'), ('BlindSR_stage3', 'centered'),
        *(pytest.param(job, alignment, marks=pytest.mark.slow) for job, alignment in (
            ('MANet_stage1', 'centered'), ('SFTRRDB_stage2', 'centered'), ('SFTRRDB_stage2', 'published'),
            ('BlindSR_stage3', 'published'), ('RRDBNet', 'centered'), ('RRDBNet', 'published'),
        )),
    ],
)  # fmt: skip
def test_evaluation_test_command_and_lr_files_on_disk_agree(
    job: str, alignment: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets, metrics = {'invariant': 0, 'type5': 5}, {'kernel_psnr', 'lr_psnr', 'lr_ssim'}
    metrics = metrics if job == 'MANet_stage1' else {'psnr', 'ssim'}
    sections = {
        f'test_{kind}': dataset_section(images, name, {'type': 'protocol', 'kind': kind}, alignment)
        for name, kind in sets.items()
    }
    file = small_file(job, tmp_path, datasets=sections)
    monkeypatch.chdir(tmp_path)
    evaluated = means(
        run(images, tmp_path / 'records.jsonl', [f'net={file}'], sets=list(sets), alignments=[alignment]), 'net'
    )
    tested = test_pipeline(shortened.resolved(file, ['val:save_img=false'], tmp_path))

    write_testsets(images, tmp_path / 'sets', sets=list(sets), corruption=Corruption(alignment=alignment))
    suffix = '' if alignment == 'centered' else '_published'
    on_disk = {
        f'test_{kind}': disk_section(images, tmp_path / f'sets/x4/{name}{suffix}', name) for name, kind in sets.items()
    }
    entries = ['val:save_img=false', f'datasets={json.dumps(on_disk)}']
    from_files = test_pipeline(shortened.resolved(file, entries, tmp_path))
    for name in sets:
        for metric in metrics:
            found = evaluated[name][metric]
            assert math.isfinite(found)
            assert tested[name][metric] == pytest.approx(found, abs=DECIBELS)
            assert from_files[name][metric] == pytest.approx(found, abs=DECIBELS)


@pytest.mark.parametrize('job', ['MANet_stage1', 'SFTRRDB_stage2'])
def test_the_roads_agree_beyond_gaussians_too(
    job: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'bank').mkdir()
    np.save(tmp_path / 'bank/spots.npy', np.random.default_rng(0).random((4, 7, 7)))
    measured = {'measured': {'type': 'bank', 'folder': str(tmp_path / 'bank'), 'period': 40}}
    fields = {name: field_of(name, 4) for name in ('object_motion', 'motion_variant', 'defocus_variant')}
    sections = {f'test_{n}': dataset_section(images, n, f, 'centered') for n, f in {**fields, **measured}.items()}
    file = small_file(job, tmp_path, datasets=sections)
    monkeypatch.chdir(tmp_path)
    plan: dict[str, Any] = {'sets': list(fields), 'more_fields': measured}
    evaluated = means(run(images, tmp_path / 'records.jsonl', [f'net={file}'], **plan), 'net')
    tested = test_pipeline(shortened.resolved(file, ['val:save_img=false'], tmp_path))
    write_testsets(images, tmp_path / 'sets', **plan)
    on_disk = {f'test_{name}': disk_section(images, tmp_path / f'sets/x4/{name}', name) for name in evaluated}
    entries = ['val:save_img=false', f'datasets={json.dumps(on_disk)}']
    from_files = test_pipeline(shortened.resolved(file, entries, tmp_path))
    assert evaluated.keys() == {*fields, 'measured'}
    for name, found in evaluated.items():
        for metric in ('kernel_psnr', 'lr_psnr', 'lr_ssim') if job == 'MANet_stage1' else ('psnr', 'ssim'):
            assert math.isfinite(found[metric])
            assert tested[name][metric] == pytest.approx(found[metric], abs=DECIBELS)
            assert from_files[name][metric] == pytest.approx(found[metric], abs=DECIBELS)


def dataset_section(images: Path, name: str, field: dict[str, Any], alignment: str) -> dict[str, Any]:
    degradation = {'alignment': alignment, 'field': field}
    return {'name': name, 'type': 'SVDegradationDataset', 'dataroot_gt': str(images), 'degradation': degradation}


def disk_section(images: Path, folder: Path, name: str) -> dict[str, Any]:
    roots = {'dataroot_gt': str(images), 'dataroot_lq': str(folder), 'kernels': str(folder / 'kernels.json')}
    return {'name': name, 'type': 'SVDegradationDataset', **roots}


def test_a_folder_and_its_lmdb_give_the_same_scores(images: Path, tmp_path: Path) -> None:
    write_lmdb(images, tmp_path / 'two.lmdb')
    folder, packed = (
        run(root, tmp_path / f'{number}.jsonl', ['bicubic', 'mean'], sets=['type5'])
        for number, root in enumerate((images, tmp_path / 'two.lmdb'))
    )
    for method in ('bicubic', 'mean'):
        for metric in ('psnr', 'ssim', 'lr_psnr', 'kernel_psnr'):
            assert means(folder, method)['type5'][metric] == means(packed, method)['type5'][metric]


# ------------------------------------------------------------------------------------------------------------- methods


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('alignment', ['centered', 'published'])
def test_bicubic_lies_on_the_grid_that_the_lr_image_was_sampled_on(scale: int, alignment: str) -> None:
    row, column = torch.meshgrid(torch.arange(48.0), torch.arange(60.0), indexing='ij')
    ramp = torch.stack([row / 60, column / 60, (row + column) / 120])
    field = protocol_field(1, 48, 60, scale, alignment=alignment)
    lq = blur_downsample(ramp[None], field, scale)[0]
    sr = bicubic_upsample(lq, scale, alignment)
    assert sr.shape == ramp.shape
    # Symmetric blur leaves a ramp as it is, away from the border; a shift by one px would be 1/60, OpenCV's
    # cubic (a = -0.75) bends it by 0.003 at x4.
    torch.testing.assert_close(sr[:, 18:-18, 18:-18], ramp[:, 18:-18, 18:-18], atol=4e-3, rtol=0)


def test_centered_bicubic_is_opencv_s() -> None:
    lq = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(0))
    expected = cv2.resize(lq.permute(1, 2, 0).numpy(), None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(bicubic_upsample(lq, 3, 'centered').permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_bicubic_scores_the_same_on_both_grids(images: Path, tmp_path: Path) -> None:
    both = run(images, tmp_path / 'r.jsonl', ['bicubic'], alignments=['centered', 'published'], sets=['invariant'])
    centered, published = (row['psnr'] for row in summarize(both))
    assert centered == pytest.approx(published, abs=0.3)  # the border differs; a shift of 3 px costs 5 dB


def test_given_kernels_are_ranked_by_what_they_know(images: Path, tmp_path: Path) -> None:
    generator = small_file('SFTRRDB_stage2', tmp_path)
    words, sets = ['oracle', 'mean', 'fixed'], ['type2', 'invariant']
    scored = run(images, tmp_path / 'r.jsonl', words, [str(generator)], sets=sets)
    oracle, mean, fixed = (means(scored, name) for name in ('oracle', 'mean', 'fixed'))
    assert math.isinf(oracle['type2']['lr_psnr']) and math.isinf(oracle['type2']['kernel_psnr'])
    assert 25 < fixed['type2']['lr_psnr'] < 100
    # Of all single kernels the mean has the smallest square error; that of the LR image is another matter.
    assert mean['type2']['kernel_psnr'] > fixed['type2']['kernel_psnr']
    # One kernel an image is its own mean.
    assert math.isinf(mean['invariant']['lr_psnr'])
    assert mean['invariant']['psnr'] == oracle['invariant']['psnr']
    assert mean['type2']['psnr'] != oracle['type2']['psnr'] != fixed['type2']['psnr']


def test_the_oracle_is_stage_2_itself_and_a_blind_network_lends_its_generator(images: Path, tmp_path: Path) -> None:
    generator, blind = small_file('SFTRRDB_stage2', tmp_path), small_file('BlindSR_stage3', tmp_path)
    stage2 = run(images, tmp_path / 'r.jsonl', [f'stage2={generator}', 'oracle'], [str(generator)])
    assert means(stage2, 'stage2')['type4']['psnr'] == means(stage2, 'oracle')['type4']['psnr']
    lent = run(images, tmp_path / 'r.jsonl', [f'blind={blind}', 'oracle'], [str(blind)])
    assert means(lent, 'oracle')['type4']['psnr'] != means(lent, 'blind')['type4']['psnr']
    assert means(lent, 'blind')['type4']['lr_psnr'] > 10


def test_kernels_without_a_generator_are_scored_as_kernels_alone(images: Path, tmp_path: Path) -> None:
    fixed = means(run(images, tmp_path / 'r.jsonl', ['fixed']), 'fixed')['type4']
    assert fixed['psnr'] is None and fixed['lr_psnr'] > 25
    with pytest.raises(OptionError, match='oracle: needs a generator'):
        build_methods(['oracle'])


def test_a_file_of_training_stands_for_the_weights_of_its_experiment(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = small_file('BlindSR_stage3', tmp_path)
    options = shortened.forced(
        shortened.option_file('train', 'BlindSR_stage3', 4),
        [*shortened.small_network('BlindSR_stage3'), f'path:pretrain_network_g={tested}'],  # where it starts: no matter
    )
    (tmp_path / 'train.yml').write_text(yaml.safe_dump(options), encoding='utf-8')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match='net_g_latest.pth: cannot read weights'):
        run(images, tmp_path / 'r.jsonl', ['trained=train.yml'])
    models = tmp_path / 'experiments/train_BlindSR_stage3_x4/models'
    models.mkdir(parents=True)
    (tmp_path / 'BlindSR_stage3_x4.pth').rename(models / 'net_g_latest.pth')
    trained = means(run(images, tmp_path / 'r.jsonl', ['trained=train.yml']), 'trained')['type4']
    (models / 'net_g_latest.pth').rename(tmp_path / 'BlindSR_stage3_x4.pth')
    assert trained['psnr'] == means(run(images, tmp_path / 'r.jsonl', [f'a={tested}']), 'a')['type4']['psnr']
    assert not list(tmp_path.glob('results'))


def test_one_name_serves_files_of_several_scales_and_each_is_run_on_its_own(images: Path, tmp_path: Path) -> None:
    files = [small_file('MANet_stage1', tmp_path, scale) for scale in (2, 4)]
    scored = run(images, tmp_path / 'r.jsonl', [f'MANet={file}' for file in files], scales=[2, 4])
    assert [row['scale'] for row in summarize(scored)] == [2, 4]
    with pytest.raises(OptionError, match='MANet: fits none of the conditions'):
        run(images, tmp_path / 'r.jsonl', [f'MANet={files[0]}'], scales=[3])
    with pytest.raises(OptionError, match='MANet: two methods of this name'):
        run(images, tmp_path / 'r.jsonl', [f'MANet={files[1]}'] * 2)


def test_a_network_is_not_run_on_a_grid_it_was_not_made_for(images: Path, tmp_path: Path) -> None:
    file = small_file('MANet_stage1', tmp_path)
    scored = run(images, tmp_path / 'r.jsonl', [f'a={file}'], alignments=['centered', 'published'])
    assert [row['alignment'] for row in summarize(scored)] == ['centered']


@pytest.mark.parametrize(
    ('word', 'message'),
    [('bicubi', "did you mean 'bicubic'"), ('a=no.yml', 'no.yml: cannot read'), ('net.pth', 'an option file FILE')],
)
def test_a_method_that_is_none_is_one_clear_line(word: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        build_methods([word])


def test_weights_that_do_not_fit_are_named_before_anything_is_scored(images: Path, tmp_path: Path) -> None:
    file = small_file('MANet_stage1', tmp_path)
    torch.save({'params': {'other': torch.zeros(1)}}, tmp_path / 'MANet_stage1_x4.pth')
    with pytest.raises(OptionError, match=r'stage1_x4\.yml: .*stage1_x4\.pth .* does not fit the network MANet'):
        run(images, tmp_path / 'r.jsonl', ['bicubic', f'a={file}'])
    assert (tmp_path / 'r.jsonl').read_bytes() == b''


# ---------------------------------------------------------------------------------------------------------- conditions


@pytest.mark.parametrize('blur', SETS)
@pytest.mark.parametrize('scale', [2, 3, 4])
def test_every_set_can_be_drawn_at_every_scale_on_both_grids(blur: str, scale: int, images: Path) -> None:
    for condition in plan_conditions([images], sets=[blur], scales=[scale], alignments=['centered', 'published']):
        sample = condition.open()[0]
        assert sample['lq'].shape == (3, 96 // scale, 112 // scale)
        torch.testing.assert_close(sample['kernel'].sum(0), torch.ones(sample['kernel'].shape[1:]))


def test_noise_and_jpeg_change_the_image_but_not_what_kernels_are_scored_on(images: Path, tmp_path: Path) -> None:
    corruptions = ['clean', 'noise15', 'jpeg70', 'noise15+jpeg70']
    scored = run(images, tmp_path / 'r.jsonl', ['bicubic', 'fixed'], corruptions=corruptions)
    rows = summarize(scored)
    bicubic = [row['psnr'] for row in rows if row['method'] == 'bicubic']
    assert bicubic == sorted(bicubic, reverse=True) or bicubic[2] > bicubic[1]
    assert bicubic[0] - max(bicubic[1:]) > 0.1
    assert len({row['lr_psnr'] for row in rows if row['method'] == 'fixed'}) == 1


@pytest.mark.parametrize('words', ['noise', 'noisy15', 'jpeg', 'noise15,jpeg70', 'clean+noise15', 'noise15+noise25'])
def test_a_corruption_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match=f"corruption: found '{words.replace('+', '.')}'"):
        parse_corruption(words)


@pytest.mark.parametrize(
    ('plan', 'message'),
    [
        ({'sets': ['type9']}, "sets 'type9' is not one of"),
        ({'scales': [0]}, 'scale'),
        ({'corruptions': ['jpeg101']}, 'degradation.jpeg: found'),
        ({'kernel_size': 20}, 'degradation.kernel_size: found 20'),
        ({'more_fields': {'mine': {'type': 'discus'}}}, "'discus' is not one of .*"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_at_once(images: Path, plan: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_conditions([images], **plan)


def test_what_is_asked_for_twice_is_done_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {'sets': ['type1'], 'scales': [4, 4], 'alignments': ['centered'] * 2, 'corruptions': ['clean', 'clean']}
    (condition,) = plan_conditions([images, images], **plan)  # type: ignore[arg-type]
    monkeypatch.chdir(images)
    (here,) = plan_conditions(['.'], sets=['type1'])
    assert here.image_set == condition.image_set == images.stem


def test_conditions_in_numbers_do_not_run_out_of_open_files(images: Path, tmp_path: Path) -> None:
    corruptions = [f'noise{level}' for level in range(1, 31)]
    conditions = plan_conditions([images], sets=['type4'], corruptions=corruptions)
    held = psutil.Process().num_fds()
    seen = []

    def watch(steps: Any, total: int) -> Any:
        seen.append(psutil.Process().num_fds())
        return iter(())

    evaluate(conditions, build_methods(['bicubic'], []), tmp_path / 'records.jsonl', progress=watch)
    assert seen[0] - held < 10  # a few for the images and the record, whatever the number of conditions


def test_images_that_are_not_there_or_share_a_name_are_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
        plan_conditions([tmp_path / 'nowhere'])
    with pytest.raises(ValueError, match='two sets of one name'):
        plan_conditions([images, tmp_path / 'two.lmdb'])


# -------------------------------------------------------------------------------------------- going on, and not mixing


class Counted(GivenKernels):
    """The fixed kernel, counted, and failing where it is told to."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__('fixed', None)
        self.calls, self.fail_at = 0, fail_at

    def predict(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.error
        return super().predict(*arguments)

    error: BaseException = KeyboardInterrupt()


def scored(images: Path, record: Path, method: Method, **plan: Any) -> Evaluation:
    return evaluate(plan_conditions([images], **{'sets': ['invariant', 'type1'], **plan}), [method], record)


def test_an_interrupted_run_goes_on_where_it_stopped(images: Path, tmp_path: Path) -> None:
    record = tmp_path / 'records.jsonl'
    with pytest.raises(KeyboardInterrupt):
        scored(images, record, Counted(fail_at=8))
    assert len(record.read_text().splitlines()) == 7
    with record.open('a') as file:
        file.write('{"key": "half-writ')  # what a kill leaves
    second = Counted()
    result = scored(images, record, second)
    assert second.calls == 20 - 7
    assert len(result.rows) == len(record.read_text().splitlines()) == 20
    third = Counted()
    again = scored(images, record, third)
    assert third.calls == 0
    assert again.rows == result.rows


def test_a_changed_configuration_never_uses_old_rows(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, folder = tmp_path / 'records.jsonl', tmp_path / 'images'
    folder.mkdir()
    for path in images.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())

    def new_calls(**plan: Any) -> int:
        method = Counted()
        result = scored(folder, record, method, **{'sets': ['type1'], **plan})
        assert len(result.rows) == 2
        return method.calls

    assert [new_calls(), new_calls()] == [2, 0]
    for plan in ({'scales': [2]}, {'alignments': ['published']}, {'corruptions': ['noise15']}, {'kernel_size': 15}):
        assert [new_calls(**plan), new_calls(**plan)] == [2, 0]
    image = cv2.imread(str(folder / 'chelsea.png'))
    image[5, 5] ^= 1
    cv2.imwrite(str(folder / 'chelsea.png'), image)
    assert new_calls() == 1  # one pixel of one image
    monkeypatch.setattr('manet_basicsr.__version__', '99')
    assert new_calls() == 2


def test_other_weights_or_options_never_use_old_rows(images: Path, tmp_path: Path) -> None:
    record, rows = tmp_path / 'records.jsonl', []
    for changes in ({}, {}, {'seed': 1}, {'val': {'tile': 8}}, {'manual_seed': 5, 'num_gpu': 0}):
        file = small_file('MANet_stage1', tmp_path, **changes)
        rows.append({row['key'] for row in run(images, record, [f'a={file}']).rows})
    assert rows[0] == rows[1] == rows[4]  # the seed of a test has no effect
    assert len(rows[0] | rows[2] | rows[3]) == 6


def test_a_second_run_into_the_same_record_is_refused(images: Path, tmp_path: Path) -> None:
    with RecordFile(tmp_path / 'records.jsonl'), pytest.raises(ValueError, match='is in use by another run'):
        scored(images, tmp_path / 'records.jsonl', Counted())


def test_names_that_read_as_numbers_are_names(tmp_path: Path) -> None:
    row = {'key': 'a', 'images': 'nan', 'sample': 'inf', 'psnr': math.inf, 'ssim': None}
    with RecordFile(tmp_path / 'records.jsonl') as record:
        record.append(row)
    with RecordFile(tmp_path / 'records.jsonl') as record:
        assert record.rows == {'a': {**dict.fromkeys(METRICS), **row}}


def test_a_record_that_is_none_is_refused_and_left_alone(images: Path, tmp_path: Path) -> None:
    for text in ('my thesis\n', '[1]\n', '{"key": 1, "psnr": []}\n{}\n'):
        (tmp_path / 'records.jsonl').write_text(text)
        with pytest.raises(ValueError, match=r'records\.jsonl, line \d: is no row'):
            scored(images, tmp_path / 'records.jsonl', Counted())
        assert (tmp_path / 'records.jsonl').read_text() == text


def test_a_failure_costs_one_image_and_is_tried_again(images: Path, tmp_path: Path) -> None:
    method = Counted(fail_at=3)
    method.error = RuntimeError('out of memory\nwith a long trace')
    result = scored(images, tmp_path / 'records.jsonl', method)
    assert len(result.rows) == 19
    assert [str(failure) for failure in result.failures] == [
        'astronaut_k2 (two invariant x4 centered clean), fixed: out of memory'
    ]
    assert '| invariant | fixed | 17 of 18 |' in write_tables(result, tmp_path)
    assert scored(images, tmp_path / 'records.jsonl', Counted()).failures == []


def test_a_damaged_and_a_tiny_image_are_listed_and_the_others_scored(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'images'
    folder.mkdir()
    whole = (images / 'chelsea.png').read_bytes()
    (folder / 'a_whole.png').write_bytes(whole)
    (folder / 'b_half.png').write_bytes(whole[: len(whole) // 2])
    cv2.imwrite(str(folder / 'c_tiny.png'), np.zeros((16, 16, 3), np.uint8))
    result = scored(folder, tmp_path / 'records.jsonl', Counted(), sets=['type1'])
    assert [row['sample'] for row in result.rows] == ['a_whole']
    assert [failure.sample for failure in result.failures] == ['b_half', 'c_tiny']
    assert 'damaged' in result.failures[0].error
    assert 'inside a border' in result.failures[1].error


# -------------------------------------------------------------------------------------------------------------- tables


def test_tables_have_the_means_of_the_record(images: Path, tmp_path: Path) -> None:
    result = run(images, tmp_path / 'records.jsonl', ['bicubic', 'mean'], sets=['invariant', 'type3'])
    text = write_tables(result, tmp_path)
    assert (tmp_path / 'results.md').read_text() == text
    rows = [json.loads(line) for line in (tmp_path / 'records.jsonl').read_text().splitlines()]
    bicubic = [row['psnr'] for row in rows if (row['method'], row['set']) == ('bicubic', 'type3')]
    assert f'| type3 | bicubic | 2 | {sum(bicubic) / 2:.2f} |' in text
    assert '| invariant | mean | 18 |  |  | exact | 1.0000 | exact |' in text
    table = (tmp_path / 'results.csv').read_text().splitlines()
    assert len(table) == 1 + 4
    assert table[0].startswith('images,scale,alignment,corruption,set,method,scored,expected,psnr,ssim,lr_psnr')


def test_rows_have_time_and_memory(images: Path, tmp_path: Path) -> None:
    file = small_file('BlindSR_stage3', tmp_path)
    rows = run(images, tmp_path / 'records.jsonl', [f'a={file}']).rows
    assert all(0 < row['seconds'] < 60 for row in rows)
    on_cpu = not torch.cuda.is_available()
    assert all(0 < row['cpu_seconds'] < 60 if on_cpu else row['cpu_seconds'] is None for row in rows)
    # The field alone, 441 taps of 24x28 pixels in float32, is 1.1 MiB.
    assert all(row['peak_mib'] is None or 1 < row['peak_mib'] < 1000 for row in rows)


def test_rows_of_another_name_are_scored_under_it(images: Path, tmp_path: Path) -> None:
    """A copy of a folder, and a second name for one field, have rows of their own."""
    copy = tmp_path / 'copy'
    copy.mkdir()
    for path in images.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    field = {'type': 'protocol', 'kind': 1}
    for folder, names in ((images, ['a']), (copy, ['a']), (images, ['a', 'b'])):
        plan = plan_conditions([folder], sets=[], more_fields=dict.fromkeys(names, field))
        result = evaluate(plan, [Counted()], tmp_path / 'r.jsonl')
        assert [(row['scored'], row['expected']) for row in summarize(result)] == [(2, 2)] * len(names)


def test_option_files_may_name_what_plugins_register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []

    class Plugin:
        name = value = 'theirs'

        def load(self) -> None:
            imported.append(self.name)

    monkeypatch.setattr(plugins, 'entry_points', lambda group: [Plugin()] if group == 'basicsr.plugins' else [])
    build_methods([str(small_file('MANet_stage1', tmp_path))])
    assert imported == ['theirs']


def test_rows_are_of_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = OptionFile(small_file('MANet_stage1', tmp_path, num_gpu='auto'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    on_cpu = file.fingerprint()
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert file.fingerprint() != on_cpu
    file.options['num_gpu'] = 0
    assert file.fingerprint() == on_cpu


def test_the_weights_of_a_training_file_are_those_below_its_root(tmp_path: Path) -> None:
    path = tmp_path / 'train.yml'
    path.write_text('name: x\nscale: 4\npath: {experiments_root: runs}\ntrain: {}\n')
    assert OptionFile(path).options['path']['pretrain_network_g'] == 'runs/x/models/net_g_latest.pth'


SOLVER = 'bsrdm[rounds=1,steps=1,walk=1,warmup=1,width=8]'


def test_a_solver_is_a_method_scored_once_and_named_after_its_settings(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = plan_conditions([images], sets=['type1'])
    first = evaluate(conditions, build_methods([SOLVER]), tmp_path / 'records.jsonl')
    assert not first.failures
    assert all(row['method'] == SOLVER and row['psnr'] > 5 and row['lr_psnr'] > 20 for row in first.rows)
    monkeypatch.setattr(zero_shot, 'solve', None)  # is not called again
    again = evaluate(conditions, build_methods([SOLVER]), tmp_path / 'records.jsonl')
    assert again.rows == first.rows
    assert len(again.rows) == 2


def test_an_interrupted_solver_keeps_the_images_that_are_done(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupted_at_the_second(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return solve(*arguments)

    monkeypatch.setattr(zero_shot, 'solve', interrupted_at_the_second)
    conditions = plan_conditions([images], sets=['type1'])
    with pytest.raises(KeyboardInterrupt):
        evaluate(conditions, build_methods([SOLVER]), tmp_path / 'records.jsonl')
    assert len((tmp_path / 'records.jsonl').read_text().splitlines()) == 1
    assert len(evaluate(conditions, build_methods([SOLVER]), tmp_path / 'records.jsonl').rows) == 2
    assert len(calls) == 3


def test_a_solver_is_told_the_true_field_where_it_asks_for_it(images: Path, tmp_path: Path) -> None:
    conditions = plan_conditions([images], sets=['type1'], alignments=['centered', 'published'])
    found = evaluate(conditions, build_methods(['dip[kernel=true,steps=1,width=4]']), tmp_path / 'r.jsonl', limit=1)
    assert not found.failures
    assert [row['alignment'] for row in found.rows] == ['centered']  # the other grid is none of a solver's
    assert math.isinf(found.rows[0]['lr_psnr'])


def test_a_solver_that_is_told_one_kernel_is_not_run_where_kernels_vary(images: Path) -> None:
    method: Any
    (method,) = build_methods(['zssr[kernel=true]'])
    fitting = [place.blur for place in plan_conditions([images], sets=list(SETS)) if method.fits(place)]
    assert 'invariant' in fitting and not {'type1', 'type4', 'motion_variant'} & set(fitting)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'generators': ['test_SFTRRDB_stage2_x4']}, 'generator: found test_SFTRRDB_stage2_x4, but no method'),
        ({'budget': 'short'}, 'budget: found short, but no method is a solver'),
    ],
)
def test_a_generator_or_a_budget_without_use_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        build_methods(['bicubic'], **settings)
    build_methods(['dip', 'mean'], **settings)


def test_names_with_bars_do_not_break_tables(images: Path, tmp_path: Path) -> None:
    fields = {'a|b': {'type': 'fixed', 'variances': [4, 1], 'angle': 0}}
    found = run(images, tmp_path / 'records.jsonl', ['bicubic'], sets=[], more_fields=fields)
    assert '| a\\|b | bicubic | 2 |' in write_tables(found, tmp_path)


@pytest.mark.parametrize(
    ('word', 'name', 'file'),
    [
        ('weights://blind_x4', 'blind_x4', 'test/test_BlindSR_stage3_x4.yml'),
        ('manet_x2', 'manet_x2', 'test/test_MANet_stage1_x2.yml'),
        ('first=weights://blind_v0_1_0_x4', 'first', 'peers/test_BlindSR_v0_1_0_x4.yml'),
        ('test_DAN_x3', 'test_DAN_x3', 'peers/test_DAN_x3.yml'),
        ('DAN=test_DAN_x3.yml', 'DAN', 'peers/test_DAN_x3.yml'),
    ],
)
def test_what_ships_needs_no_path(word: str, name: str, file: str) -> None:
    method: Any
    (method,) = build_methods([word])
    assert method.name == name and method.file.path.endswith(f'options/{file}')


@pytest.mark.parametrize('name', shipped_weights())
def test_all_weights_that_ship_can_be_evaluated_by_their_address(name: str) -> None:
    method: Any
    (method,) = build_methods([f'weights://{name}'])
    assert method.file.options['path']['pretrain_network_g'] == f'weights://{name}'


def test_weights_that_do_not_ship_are_named() -> None:
    with pytest.raises(OptionError, match="'weights://blnd_x4' is not one of .*did you mean 'weights://blind_x4'"):
        build_methods(['weights://blnd_x4'])


def test_a_wrong_solver_or_budget_is_named() -> None:
    with pytest.raises(OptionError, match='dip: setting'):
        build_methods(['dip[step=3]'])
    with pytest.raises(OptionError, match='dop.*dip.*, an option file FILE.yml, or weights that ship'):
        build_methods(['dop'])
    (method,) = build_methods(['dip'], budget='short')
    assert method.name == 'dip[steps=1000,width=64]'


def test_what_takes_no_kernels_is_no_generator(images: Path, tmp_path: Path) -> None:
    file = small_file('MANet_stage1', tmp_path)
    for word in ('oracle', 'kernelgan[iterations=2]'):
        with pytest.raises(OptionError, match='found a MANet, expected a generator that takes kernels, or a blind'):
            evaluate(
                plan_conditions([images], sets=['type1']), build_methods([word], [str(file)]), tmp_path / 'r.jsonl'
            )


def test_a_network_without_weights_is_not_scored(tmp_path: Path) -> None:
    file = small_file('MANet_stage1', tmp_path, path=None)
    with pytest.raises(OptionError, match='path.pretrain_network_g: missing, expected the weights'):
        build_methods([str(file)])
    # The path of a file may hold the sign behind a name.
    other = file.rename(tmp_path / 'lr=1e-4.yml')
    with pytest.raises(OptionError, match='lr=1e-4.yml: path.pretrain_network_g: missing'):
        build_methods([str(other)])
    # A network of a plugin may need none.
    assert OptionFile(small_file('MANet_stage1', tmp_path, path={}, network_g={'type': 'MyOwn'})).scale == 4


def test_a_solver_of_kernels_restores_with_the_generator_that_is_given(images: Path, tmp_path: Path) -> None:
    file = small_file('SFTRRDB_stage2', tmp_path, scale=2)
    conditions = plan_conditions([images], sets=['type1'], scales=[2])
    word = 'kernelgan[iterations=2]'
    with_images = evaluate(conditions, build_methods([word], [str(file)]), tmp_path / 'with.jsonl', limit=1)
    alone = evaluate(conditions, build_methods([word]), tmp_path / 'without.jsonl', limit=1)
    assert not with_images.failures and not alone.failures
    assert with_images.rows[0]['psnr'] is not None and alone.rows[0]['psnr'] is None
    assert with_images.rows[0]['lr_psnr'] == alone.rows[0]['lr_psnr']
    with pytest.raises(OptionError, match='fits none of the conditions'):
        evaluate(plan_conditions([images], scales=[3]), build_methods([word]), tmp_path / 'x3.jsonl')
