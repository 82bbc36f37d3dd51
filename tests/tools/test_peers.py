"""The comparison with other systems: its rows, its verdicts at results that are made up, its page and its picture."""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch

import manet_basicsr

# isort: split
from basicsr.archs import build_network

from manet_basicsr.evaluation import Condition, build_methods
from manet_basicsr.evaluation.paired import Verdict, image_of
from manet_basicsr.options.reading import load_options
from manet_basicsr.options.shipped import option_files
from manet_basicsr.zero_shot import build_solver

ROOT = Path(__file__).resolve().parents[2]
IMAGES = [('Set5', str(number)) for number in range(5)] + [('BSD100', str(number)) for number in range(20)]


@pytest.fixture(scope='module')
def peers() -> Iterator[SimpleNamespace]:
    """The modules of the tool, by the last word of their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / 'tools'))
        names = ('rows', 'claims', 'measure', 'page', 'picture', 'scores', 'train')
        parts = {name: importlib.import_module(f'peers_{name}') for name in names}
        yield SimpleNamespace(main=importlib.import_module('peers').main, **parts)


def rows(score: float, blur: str, metric: str = 'psnr', seconds: float = 1.0, spread: float = 0.1) -> list[Any]:
    """Rows of 25 images about a score, the same ups and downs for every method but for a small part of each."""
    found = []
    for number, (images, sample) in enumerate(IMAGES):
        value = score + number % 3 + spread * math.sin(7.1 * number * score)
        found.append({'images': images, 'set': blur, 'sample': sample, 'method': 'm', metric: value})
        found[-1].update(seconds=seconds, peak_mib=100.0, weights='', machine='this one')
    return found


def results(scores: dict[str, float], sets: tuple[str, ...], metric: str = 'psnr') -> dict[str, list[Any]]:
    return {name: [row for blur in sets for row in rows(score, blur, metric)] for name, score in scores.items()}


def claim(peers: SimpleNamespace, number: str) -> Any:
    (found,) = (claim for claim in peers.claims.CLAIMS if claim.number == number)
    return found


def test_rows_name_option_files_and_trainings_that_there_are(peers: SimpleNamespace) -> None:
    files = option_files()
    for entry in peers.rows.ENTRIES:
        assert {name.removesuffix('_whole') for _, name in entry.trained} <= set(peers.train.BY_NAME)
        if entry.word.endswith('.yml'):
            assert (ROOT / entry.word) == files[Path(entry.word).stem]
    names = [entry.name for entry in peers.rows.ENTRIES]
    assert len(set(names)) == len(names)


def test_tests_of_claims_name_rows_of_the_table(peers: SimpleNamespace) -> None:
    named = {
        name
        for one in peers.claims.CLAIMS
        for test in one.tests
        if isinstance(test, peers.claims.Inequality)
        for name in (test.first, test.second)
    }
    assert named <= set(peers.rows.BY_NAME)


def test_a_claim_about_networks_is_one_at_the_whole_budget_too(peers: SimpleNamespace) -> None:
    whole = {one.number: one for one in peers.claims.WHOLE_CLAIMS}
    assert {'1', '5', 'A', 'B'} <= set(whole) and not {'12', '13'} & set(whole)
    (test,) = whole['A'].tests  # at the whole budget MANet is version 0.1.0's, which has gone through stage 3
    assert (test.first, test.second) == ('MANet, whole budget', 'RCAN (our blur), whole budget')
    # What needs no training is compared as it is: without it a claim would hold by half of its tests.
    pairs = [('IKC, whole budget', 'DIP, whole budget'), ('DIP (true kernel), whole budget', 'DIP, whole budget')]
    assert [(test.first, test.second) for test in whole['3'].tests] == pairs
    assert 'KernelGAN+ZSSR' in {name for test in whole['1'].tests for name in (test.first, test.second)}
    assert [len(whole[number].tests) for number in ('6', '10', 'B')] == [7, 4, 4]  # KernelGAN has no row there
    assert whole['8'].needs.second == 'fixed, whole budget'


def test_claim_6_wants_ikc_second(peers: SimpleNamespace) -> None:
    names = ('RCAN (bicubic)', 'HAN (bicubic)', 'DIP', 'KernelGAN+ZSSR')
    last = results({peers.rows.MANET: 21.0, 'IKC': 20.0, **dict.fromkeys(names, 30.0)}, ('invariant',))
    assert claim(peers, '6').judge(last, {})[0] is Verdict.REFUTED
    second = results({peers.rows.MANET: 31.0, 'IKC': 30.5, **dict.fromkeys(names, 30.0)}, ('invariant',))
    assert claim(peers, '6').judge(second, {})[0] is Verdict.HOLDS


def test_a_solver_that_draws_nothing_is_run_once(peers: SimpleNamespace, tmp_path: Path) -> None:
    pretend_training(tmp_path, 'train_SRSVD_x4 SRSVD_seed0')
    assert len(peers.rows.BY_NAME['SRSVD'].methods(tmp_path, 'full', 3)) == 1
    assert len(peers.rows.BY_NAME['BSRDM'].methods(tmp_path, 'full', 3)) == 3


@pytest.mark.parametrize('budget', ['short', 'full'])
def test_a_solver_that_can_be_shortened_has_its_paper_s_settings_at_the_whole_budget(
    peers: SimpleNamespace, budget: str, tmp_path: Path
) -> None:
    methods = peers.rows.Choice(tmp_path, ('DIP', 'DIP, whole budget'), budget, 1).methods()
    made = {method: entry.name for method, (entry, _) in methods.items() if entry.name != peers.rows.MANET}
    short = {'dip[steps=1000,width=64]': 'DIP', 'dip': 'DIP, whole budget'}
    assert made == (short if budget == 'short' else {'dip': 'DIP'})
    alone = peers.rows.Choice(tmp_path, ('DIP, whole budget',), budget, 1)
    assert 'dip' in alone.methods()


def test_the_page_has_what_has_the_whole_budget_beside_it_and_only_that(peers: SimpleNamespace) -> None:
    made = results({peers.rows.MANET: 28.0, 'MANet, whole budget': 29.0, 'IKC, whole budget': 27.0}, peers.page.SETS)
    parts = peers.page.parts_of(made, {})
    assert 'whole budget' not in parts['results'] + parts['study']
    line = next(line for line in parts['whole results'].splitlines() if line.startswith('| IKC | '))
    assert re.fullmatch(r'\| IKC \| 2\d\.\d+ \(-2\.\d+ ± 0\.\d+\) .*', line)
    assert '| oracle | not run |' in parts['whole results']
    assert '| DAN | not trained |' in parts['whole results']
    assert '| | MANet > IKC; types 1 to 5 | type1: +' in parts['whole claims']
    assert '| HAN (bicubic): not trained | open |' in parts['whole claims']
    made['IKC, whole budget'] = [row for row in made['IKC, whole budget'] if row['images'] == 'Set5']
    whole_tables = peers.page.parts_of(made, {})['whole results']
    assert whole_tables.count('| IKC | not run here |') == 1 and whole_tables.count('| IKC | 2') == 1
    assert '**5a**' not in parts['whole claims'] and '**8**' not in parts['whole claims']


@pytest.mark.parametrize(
    ('mean', 'manet', 'verdict'),
    [(28.0, 29.0, Verdict.HOLDS), (29.0, 28.0, Verdict.REFUTED), (28.0, 28.02, Verdict.OPEN)],
)
def test_claim_5b_is_decided_by_made_up_results(
    peers: SimpleNamespace, mean: float, manet: float, verdict: Verdict
) -> None:
    made = results({'oracle': 31.0, 'mean': mean, peers.rows.MANET: manet}, peers.claims.VARIANT)
    found, outcomes = claim(peers, '5b').judge(made, {})
    assert found is verdict
    assert claim(peers, '5a').judge(made, {})[0] is Verdict.HOLDS
    assert outcomes[0].figure.startswith('type1: ') and '±' in outcomes[0].figure


def test_one_type_that_fails_refutes_a_claim_about_every_type(peers: SimpleNamespace) -> None:
    made = results({'oracle': 31.0, 'mean': 28.0, peers.rows.MANET: 29.0}, peers.claims.VARIANT)
    made['mean'] = [row if row['set'] != 'type3' else {**row, 'psnr': 40.0} for row in made['mean']]
    assert claim(peers, '5a').judge(made, {})[0] is Verdict.REFUTED


def test_claim_2_compares_a_network_with_itself_on_another_set(peers: SimpleNamespace) -> None:
    sets = (*peers.claims.VARIANT, 'invariant')
    made = results({'RCAN (bicubic)': 26.9, 'HAN (bicubic)': 26.9, 'bicubic': 26.5}, sets)
    for name in ('RCAN (bicubic)', 'HAN (bicubic)'):
        made[name] += rows(31.0, 'bicubic')
    verdict, outcomes = claim(peers, '2').judge(made, {})
    assert verdict is Verdict.HOLDS
    assert outcomes[0].words == 'RCAN (bicubic) on bicubic > RCAN (bicubic) on invariant + 3 dB'
    made['HAN (bicubic)'] = [row for row in made['HAN (bicubic)'] if row['set'] != 'bicubic'] + rows(28.0, 'bicubic')
    assert claim(peers, '2').judge(made, {})[0] is Verdict.REFUTED


def test_claim_6_asks_two_methods_to_be_close(peers: SimpleNamespace) -> None:
    scores = {peers.rows.MANET: 29.9, 'IKC': 29.0, 'KernelGAN+ZSSR': 27.0, 'HAN (bicubic)': 27.1, 'DIP': 26.9}
    scores['RCAN (bicubic)'] = 27.2
    assert claim(peers, '6').judge(results(scores, ('invariant',)), {})[0] is Verdict.HOLDS
    scores['DIP'] = 24.0
    assert claim(peers, '6').judge(results(scores, ('invariant',)), {})[0] is Verdict.REFUTED


def test_networks_that_have_not_learned_decide_nothing_where_they_have_not(peers: SimpleNamespace) -> None:
    scores = {'MANet (estimator)': 42.0, 'two blocks': 41.0, 'fixed': 40.0}
    made = results(scores, peers.claims.VARIANT, 'lr_psnr')
    verdict, outcomes = claim(peers, '8').judge(made, {})
    assert verdict is Verdict.HOLDS
    assert [outcome.verdict for outcome in outcomes] == [Verdict.HOLDS, Verdict.HOLDS]
    assert outcomes[0].words == 'needed: MANet (estimator) > fixed (LR PSNR); types 1 to 5'

    def better(name: str, blur: str) -> dict[str, Any]:
        more = [{**row, 'lr_psnr': row['lr_psnr'] + 4} if row['set'] == blur else row for row in made[name]]
        return {**made, name: more}

    # On one type it knows less than nothing: what else is there decides nothing.
    verdict, outcomes = claim(peers, '8').judge(better('fixed', 'type3'), {})
    assert verdict is Verdict.OPEN
    assert [outcome.verdict for outcome in outcomes] == [Verdict.REFUTED, Verdict.OPEN] and outcomes[1].figure
    made = better('fixed', 'type3')
    assert claim(peers, '8').judge(better('two blocks', 'type3'), {})[0] is Verdict.OPEN
    assert claim(peers, '8').judge(better('two blocks', 'type2'), {})[0] is Verdict.REFUTED


def test_claim_11_is_about_ratios_of_times(peers: SimpleNamespace) -> None:
    made = {'KernelGAN': rows(20, 'type4', seconds=60.0), peers.rows.MANET: rows(29, 'type4', seconds=0.3)}
    verdict, outcomes = claim(peers, '11').judge(made, {'ikc_ratio': 25.0})
    assert verdict is Verdict.HOLDS
    assert [outcome.figure for outcome in outcomes] == ['25.0x', 'type4: 200x']
    assert claim(peers, '11').judge(made, {'ikc_ratio': 2.0})[0] is Verdict.REFUTED
    # Other work of the machine made the solver wait; on processors it took half as long.
    for name, time in (('KernelGAN', 30.0), (peers.rows.MANET, 0.3)):
        made[name] = [{**row, 'cpu_seconds': time} for row in made[name]]
    assert claim(peers, '11').judge(made, {})[1][1].figure == 'type4: 100x'


def test_claims_without_rows_or_measurements_are_open_and_say_what_is_missing(peers: SimpleNamespace) -> None:
    for one in peers.claims.CLAIMS:
        verdict, outcomes = one.judge({}, {})
        assert verdict is Verdict.OPEN
        assert all(outcome.missing and not outcome.figure for outcome in outcomes)
    few = {name: made[:4] for name, made in results({'oracle': 31.0, 'mean': 28.0}, ('type1',)).items()}
    outcome = peers.claims.Inequality('oracle', 'mean', sets=('type1',)).judge(few, {})
    assert outcome.verdict is Verdict.OPEN
    assert outcome.figure.endswith('(images: 4, needed: 5)')


def test_a_measurement_is_a_number_or_a_difference_an_image(peers: SimpleNamespace) -> None:
    test = peers.claims.Measurement('saved', 'saved', 25, '{:.1f} %')
    assert test.judge({}, {'saved': 28.9}) == peers.claims.Outcome('saved', Verdict.HOLDS, '28.9 %')
    assert test.judge({}, {'saved': 25.0}).verdict is Verdict.REFUTED
    assert test.judge({}, {'saved': [30.0, 31, 29, 30, 30]}).figure == '+30.00 ± 0.32 (n = 5)'


def test_mutual_affine_convolutions_save_what_the_paper_counts(peers: SimpleNamespace) -> None:
    found = peers.measure.measure_sizes()
    assert found['parameters_saved'] == pytest.approx(28.9, abs=0.1)
    assert found['macs_saved'] == pytest.approx(25.3, abs=0.2)
    assert len(found['time_saved']) == 7


def test_the_most_textured_place_is_found_away_from_the_border(peers: SimpleNamespace) -> None:
    lq = torch.zeros(3, 40, 60)
    lq[:, 20:24:2, 41:45] = 1
    lq[:, 0, ::2] = 1  # within the margin only
    top, left = peers.measure.most_textured(lq, 8)
    assert top <= 20 and top + 8 >= 23 and left <= 41 and left + 8 >= 45


def test_a_patch_is_scored_on_its_middle_whatever_its_size(peers: SimpleNamespace) -> None:
    """The true kernels are an exact match, and what surrounds the middle 9x9 px of a patch does not count."""
    generator = torch.Generator().manual_seed(0)
    kernel = torch.rand(441, 1, 1, generator=generator)
    kernel /= kernel.sum()
    gt = torch.rand(3, 60, 60, generator=generator)
    for side in (9, 16, 22):
        field = kernel[None].repeat(1, 1, side, side)
        assert peers.measure.score_patch(field, kernel, gt) == 100
        middle = (side - 9) // 2
        if middle:
            field[..., 0, 0] = 1 / 441
            assert peers.measure.score_patch(field, kernel, gt) == 100
        field[..., middle + 4, middle + 4] = 1 / 441
        assert peers.measure.score_patch(field, kernel, gt) < 100


def test_patches_of_all_sizes_have_the_same_middle(peers: SimpleNamespace) -> None:
    whole = torch.arange(60 * 70).view(1, 60, 70)
    middles = set()
    for side in peers.measure.SIDES:
        patch = peers.measure.middle(whole, 5, 7, side)
        assert patch.shape[-2:] == (side, side)
        cut = (side - 9) // 2
        middles.add(int(patch[0, cut, cut]))
    assert len(middles) == 1


def test_the_page_says_what_is_not_trained_and_never_a_number(peers: SimpleNamespace) -> None:
    made = results({peers.rows.MANET: 29.0, 'bicubic': 26.0}, peers.page.SETS)
    costs = {'steps': 100, 'batch': 4, 'side': 96, 'flop': 1e13, 'seconds': 36.0}
    parts = peers.page.parts_of(made, {'trainings': {'IKC': costs}})
    assert '| IKC | not trained |  |  |  |  |  |  |  |' in parts['results']
    line = next(line for line in parts['results'].splitlines() if line.startswith('| bicubic'))
    assert re.fullmatch(r'\| bicubic \| 26\.\d+ \(-3\.\d+ ± 0\.\d+\) .* \| 1\.00 \| 100 \|', line)
    # The whole budget of IKC is 2,900 iterations of 8 crops of 128 px.
    hours = 2900 * 8 * 128**2 / (4 * 96**2) * 36 / 3600
    assert f'| IKC | `peers/train_IKC_x4.yml` | 100 | 1000 | 60 | {hours:.1f} |' in parts['costs']
    assert '| MANet > IKC; types 1 to 5 | IKC: not trained | open |' in parts['claims']
    assert '| measurement parameters_saved: not measured | open |' in parts['claims']
    assert '| SRSVD | not run |' in parts['solvers'] and '| DIP | not run |' in parts['solvers']


def test_solvers_say_on_which_images_and_seeds_they_were_run(peers: SimpleNamespace) -> None:
    made = results({peers.rows.MANET: 29.0}, ('type4',))
    mine = [row for row in rows(24.0, 'type4') if row['images'] == 'Set5' and row['sample'] == '2']
    seeds = [build_solver(f'dip[steps=1000,seed={seed}]').name for seed in (1, 2)]  # where the first one failed
    made['DIP'] = [{**row, 'method': name} for row in mine for name in seeds]
    table = peers.page.solver_table(made, ['Set5', 'BSD100'])
    assert '| DIP, `dip[steps=1000]` | Set5 type4 | 2 | 2 | ' in table


def test_marked_parts_of_a_page_are_replaced_and_nothing_else(peers: SimpleNamespace) -> None:
    page = 'before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n'
    assert peers.page.fill(page, {'a': 'new\n'}) == page.replace('old', 'new')
    with pytest.raises(ValueError, match="found no '<!-- b: begin -->'"):
        peers.page.fill(page, {'b': ''})


def test_solvers_are_run_on_three_kernels_and_the_images_that_are_asked_for(peers: SimpleNamespace) -> None:
    choice = peers.rows.Choice(Path('out'), solver_images=('butterfly',), solver_sets=('invariant', 'type4'))
    dip, mean, rcan = (peers.rows.BY_NAME[name] for name in ('DIP', 'mean', 'RCAN (bicubic)'))
    wanted = [
        sample
        for blur, sample in (
            *(('invariant', f'butterfly_k{number}') for number in range(9)),
            ('invariant', 'baby_k0'), ('type4', 'butterfly'), ('type4', 'baby'), ('type1', 'butterfly'),
        )
        if choice.wants(dip, SimpleNamespace(blur=blur), sample)
    ]  # fmt: skip
    assert wanted == ['butterfly_k0', 'butterfly_k2', 'butterfly_k8', 'butterfly']
    assert choice.wants(mean, SimpleNamespace(blur='type1'), 'baby')
    assert not choice.wants(mean, SimpleNamespace(blur='bicubic'), 'baby')
    assert choice.wants(rcan, SimpleNamespace(blur='bicubic'), 'baby')


def test_seeds_and_shortened_settings_are_in_the_names_of_solvers(peers: SimpleNamespace, tmp_path: Path) -> None:
    names = [method.name for method in peers.rows.BY_NAME['DIP'].methods(tmp_path, 'short', 2)]
    assert names == ['dip[steps=1000,width=64]', 'dip[seed=1,steps=1000,width=64]']


def pretend_training(output: Path, name: str) -> None:
    """Leave what a training leaves, of a network that was not trained."""
    network = build_network(load_options(option_files()[name.partition(' ')[0]])['network_g'])
    file = output / f'experiments/{name.partition(" ")[2]}/models/net_g_latest.pth'
    file.parent.mkdir(parents=True)
    torch.save({'params': network.state_dict()}, file)


def test_a_row_is_there_once_its_trainings_are_and_the_design_study_has_every_seed(
    peers: SimpleNamespace, tmp_path: Path
) -> None:
    manet, study = (peers.rows.BY_NAME[name] for name in (peers.rows.MANET, 'split 4'))
    assert not manet.seeds(tmp_path) and not study.seeds(tmp_path) and peers.rows.BY_NAME['bicubic'].seeds(tmp_path)
    pretend_training(tmp_path, 'train_MANet_stage1_x4_cpu estimator_seed0')
    assert not manet.seeds(tmp_path)
    pretend_training(tmp_path, 'train_SFTRRDB_stage2_x4_cpu generator_seed0')
    assert manet.seeds(tmp_path) == [0]
    for seed in (0, 2, 10):
        pretend_training(tmp_path, f'train_MANet_split4_x4 split4_seed{seed}')
    pretend_training(tmp_path, 'train_MANet_split4_x4 split4_seed1_archived_20261127_040457')
    assert study.seeds(tmp_path) == [0, 2, 10]
    methods = study.methods(tmp_path)
    assert [method.name for method in methods] == [f'split 4, seed {seed}' for seed in (0, 2, 10)]
    assert len({study.checksum(tmp_path, method.name) for method in methods}) == 3
    files = {method.file.options['path']['pretrain_network_g'] for method in methods}
    assert files == {str(tmp_path / f'experiments/split4_seed{seed}/models/net_g_latest.pth') for seed in (0, 2, 10)}


def test_manet_has_the_estimator_and_the_generator_that_the_other_rows_have(
    peers: SimpleNamespace, photos: Path, tmp_path: Path
) -> None:
    def part(name: str, key: str, inner: str) -> Any:
        condition = Condition(str(photos), 'type1', {'type': 'fixed', 'variances': [1, 1]}, 4)
        (method,) = peers.rows.BY_NAME[name].methods(tmp_path)
        method.load(condition)
        return method._model.net_g.state_dict()[f'{inner}{key}']

    states = {}
    for name, file in (('estimator', 'train_MANet_stage1_x4_cpu'), ('generator', 'train_SFTRRDB_stage2_x4_cpu')):
        pretend_training(tmp_path, f'{file} {name}_seed0')
        made = torch.load(tmp_path / f'experiments/{name}_seed0/models/net_g_latest.pth', weights_only=True)['params']
        states[name] = next((key, value) for key, value in made.items() if key.endswith('weight'))
    key, value = states['estimator']
    assert torch.equal(part(peers.rows.MANET, key, 'kernel_estimation.'), value)
    key, value = states['generator']
    for name in (peers.rows.MANET, 'mean'):
        assert torch.equal(part(name, key, ''), value)


def test_at_the_whole_budget_all_have_the_generator_of_version_0_1_0(
    peers: SimpleNamespace, photos: Path, tmp_path: Path
) -> None:
    condition = Condition(str(photos), 'type1', {'type': 'fixed', 'variances': [1, 1]}, 4)
    states, names = [], ('mean, whole budget', 'MANet, whole budget')
    for name in names:
        (method,) = peers.rows.BY_NAME[name].methods(tmp_path)
        assert method.name == name
        method.load(condition)
        states.append(method._model.net_g.state_dict())
    assert states[0] and all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert method.fingerprint() != peers.rows.BY_NAME['mean, whole budget'].methods(tmp_path)[0].fingerprint()
    ikc = peers.rows.BY_NAME['IKC, whole budget']
    pretend_training(tmp_path, 'train_IKC_x4 IKC_seed0')
    assert not ikc.seeds(tmp_path)
    pretend_training(tmp_path, 'train_IKC_x4 IKC_whole_seed0')
    assert ikc.seeds(tmp_path) == [0]


def test_the_weights_of_a_solver_are_not_in_the_name_that_is_shown(peers: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / 'experiments/SRSVD_seed0/models').mkdir(parents=True)
    (tmp_path / 'experiments/SRSVD_seed0/models/net_g_latest.pth').touch()
    (method,) = peers.rows.BY_NAME['SRSVD (one kernel)'].methods(tmp_path)
    assert str(tmp_path) in method.name
    assert peers.rows.shown_name(method.name) == 'srsvd[patch=0]'
    assert peers.rows.shown_name('dip[seed=1,steps=3]') == 'dip[seed=1,steps=3]'
    assert peers.rows.shown_name('bicubic') == 'bicubic'


def test_scores_outlive_the_weights_that_made_them(peers: SimpleNamespace, tmp_path: Path) -> None:
    table = tmp_path / 'scores.csv'
    made = results({peers.rows.MANET: 29.0, 'IKC': 27.0, 'MANet (stage 3)': 31.0}, ('invariant', 'type1'))
    made['MANet (stage 3)'] = [{**row, 'psnr': math.inf} for row in made['MANet (stage 3)']]
    first = peers.scores.with_scores(made, table)
    assert list(first) == ['IKC', peers.rows.MANET, 'MANet (stage 3)']
    # Another machine has no IKC, a MANet of the same weights that is scored on less, and an oracle of others.
    new = results({peers.rows.MANET: 30.0, 'MANet (stage 3)': 32.0}, ('type1',))
    new['MANet (stage 3)'] = [{**row, 'weights': '12345678'} for row in new['MANet (stage 3)']]
    second = peers.scores.with_scores(new, table)
    for found in (second, peers.scores.with_scores({}, table)):
        assert [len(found[name]) for name in ('IKC', peers.rows.MANET, 'MANet (stage 3)')] == [50, 50, 25]
        manet = {row['set']: row['psnr'] for row in found[peers.rows.MANET] if image_of(row) == IMAGES[0]}
        assert manet == pytest.approx({'invariant': 29, 'type1': 30}, abs=0.2)
        assert {row['set'] for row in found['MANet (stage 3)']} == {'type1'}
        for kept, row in zip(found['IKC'], made['IKC'], strict=True):
            assert kept['psnr'] == pytest.approx(row['psnr'], abs=1e-3) and kept['lr_psnr'] is None
            assert (kept['images'], kept['set'], kept['sample']) == (row['images'], row['set'], row['sample'])


def test_scores_of_two_comparisons_are_not_mixed(peers: SimpleNamespace, tmp_path: Path) -> None:
    table = tmp_path / 'scores.csv'
    made = results({'mean': 29.0, 'DIP': 24.0}, ('type1',))
    made['DIP'] = [{**row, 'method': 'dip[steps=5]'} for row in made['DIP']]
    peers.scores.with_scores(made, table)
    before = table.read_bytes()
    for name in ('mean', 'oracle'):
        other = {name: [{**row, 'weights': '12345678'} for row in made['mean']]}
        with pytest.raises(ValueError, match=r'scores.csv: found scores of another generator, .*; name another file'):
            peers.scores.with_scores(other, table)
    # MANet's own weights do not tell which generator it has.
    with pytest.raises(ValueError, match='found scores of another generator'):
        peers.scores.with_scores(results({peers.rows.MANET: 25.0}, ('type1',)), table, '12345678')
    longer = {'DIP': [{**row, 'method': 'dip[seed=1]'} for row in made['DIP']]}
    with pytest.raises(ValueError, match=r'found DIP as dip and as dip\[steps=5\], expected one setting; name another'):
        peers.scores.with_scores(longer, table)
    assert table.read_bytes() == before
    table.write_text(table.read_text().replace('DIP,', 'Deep prior,'))  # a row that was named so once
    before = table.read_bytes()
    with pytest.raises(ValueError, match="found the row 'Deep prior', which is none of the comparison; name another"):
        peers.scores.with_scores(made, table)
    assert table.read_bytes() == before


def test_times_of_different_machines_are_not_compared(peers: SimpleNamespace) -> None:
    made = {'KernelGAN': rows(20, 'type4', seconds=60.0), peers.rows.MANET: rows(29, 'type4', seconds=0.3)}
    made['KernelGAN'] = [{**row, 'machine': 'another'} for row in made['KernelGAN']]
    verdict, outcomes = claim(peers, '11').judge(made, {'ikc_ratio': 25.0})
    assert verdict is Verdict.OPEN and outcomes[1].figure == 'measured on different machines'


def test_what_a_solver_was_run_on_before_stays_with_what_it_is_run_on_now(
    peers: SimpleNamespace, tmp_path: Path
) -> None:
    table = tmp_path / 'scores.csv'
    all_rows = [{**row, 'method': 'dip'} for row in results({'DIP': 24.0}, ('type4',))['DIP']]
    peers.scores.with_scores({'DIP': all_rows[:3]}, table)
    again = {**all_rows[2], 'psnr': 99.0}
    found = peers.scores.with_scores({'DIP': [again, all_rows[3]]}, table)['DIP']
    expected = [*all_rows[:2], again, all_rows[3]]
    assert [row['psnr'] for row in found] == pytest.approx([row['psnr'] for row in expected], abs=1e-3)


def test_a_table_of_something_else_is_refused(peers: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / 'scores.csv').write_text('a,b\n1,2\n')
    with pytest.raises(ValueError, match='scores.csv: found the columns .*, expected row, method, '):
        peers.scores.with_scores({}, tmp_path / 'scores.csv')
    assert (tmp_path / 'scores.csv').read_text() == 'a,b\n1,2\n'


def test_one_command_scores_measures_and_draws_and_what_was_done_is_not_done_again(
    peers: SimpleNamespace, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'Set5').mkdir()
    cv2.imwrite('Set5/butterfly.png', cv2.imread(str(photos / 'astronaut.png'))[:80, :88])
    page = tmp_path / 'page.md'
    page.write_text(
        ''.join(
            f'<!-- {part}: begin -->\n<!-- {part}: end -->\n'
            for part in ('results', 'whole results', 'solvers', 'study', 'claims', 'whole claims', 'costs')
        )
    )
    calls: list[str] = []

    def patches(images: list[str], limit: int) -> dict[str, Any]:
        calls.append('patches')
        return {'patch_scores': {str(name): [40.0, 41] for name in (*peers.measure.SIDES, 'whole', 'fixed')}}

    def noisy(images: list[str], limit: int) -> dict[str, Any]:
        calls.append('noisy')
        return {'noisy': [3.0, 4]}

    costs = {'steps': 10, 'batch': 2, 'side': 48, 'flop': 1.0, 'seconds': 1.0}
    monkeypatch.setattr(peers.measure, 'measure_patches', patches)
    monkeypatch.setattr(peers.measure, 'measure_noisy', noisy)
    monkeypatch.setattr(peers.measure, 'measure_training', lambda training, output: costs)
    monkeypatch.setattr(peers.measure, 'measure_ikc', lambda: {'ikc_ratio': 20.0})
    monkeypatch.setitem(peers.rows.BY_NAME, 'DIP', peers.rows.Entry('DIP', 'dip[steps=2,width=4]'))
    names = ('bicubic', 'DIP', 'mean', peers.rows.MANET, 'IKC', 'DIP, whole budget')
    entries = tuple(peers.rows.BY_NAME[name] for name in names)
    monkeypatch.setattr(peers.rows, 'ENTRIES', entries)
    pretend_training(tmp_path / 'out', 'train_MANet_stage1_x4_cpu estimator_seed0')
    pretend_training(tmp_path / 'out', 'train_SFTRRDB_stage2_x4_cpu generator_seed0')
    command = ['out', '--images', 'Set5', '--seeds', '2', '--solver-sets', 'type4', '--page', str(page)]
    command += ['--plot', 'plot.png', '--picture', 'picture.png', '--scores', 'scores.csv']
    assert peers.main(command) == 0
    records = (tmp_path / 'out/records.jsonl').read_text().splitlines()
    # Three rows on nine kernels and five types, two of them without blur, too; two seeds of a solver on one type.
    assert len(records) == 3 * 14 + 2 + 2
    assert {json.loads(line)['method'] for line in records if 'dip' in line} == {
        'dip[steps=2,width=4]', 'dip[seed=1,steps=2,width=4]'
    }  # fmt: skip
    assert '| bicubic | ' in page.read_text()
    # A solver with its paper's settings is the row of the whole budget, too.
    assert len(Path('scores.csv').read_text().splitlines()) == 1 + len(records) + 2
    assert cv2.imread('picture.png').shape[1] > 1000 and Path('plot.png').is_file()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / 'out/predictions').iterdir()}
    assert len(kept) == 2
    assert peers.main(command) == 0
    assert (tmp_path / 'out/records.jsonl').read_text().splitlines() == records
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / 'out/predictions').iterdir()} == kept
    assert calls == ['patches', 'noisy']


def test_what_another_version_or_other_images_gave_is_measured_anew(
    peers: SimpleNamespace, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'Set5').mkdir()
    calls: list[str] = []

    def measure(name: str, *_: Any) -> dict[str, Any]:
        calls.append(name)
        return {name: 1}

    for name in ('sizes', 'ikc', 'patches', 'noisy', 'training'):
        monkeypatch.setattr(peers.measure, f'measure_{name}', partial(measure, name))
    images = [str(tmp_path / 'Set5')]

    def measured(left: int) -> dict[str, Any]:
        photograph = cv2.imread(str(photos / 'astronaut.png'))[:80, left : left + 88]
        cv2.imwrite(f'{images[0]}/butterfly.png', photograph)
        calls.clear()
        found: dict[str, Any] = peers.measure.measure_missing(tmp_path, images, 5)
        return found

    found = measured(0)
    trainings = len(found['trainings'])
    assert calls == ['sizes', 'ikc', 'patches', 'noisy', *['training'] * trainings] and trainings > 5
    assert measured(0) == found and not calls
    measured(40)
    assert calls == ['patches', 'noisy']
    monkeypatch.setattr(manet_basicsr, '__version__', '9.9.9')
    measured(40)
    assert len(calls) == 4 + trainings


def test_without_manet_there_is_nothing_to_compare_with(
    peers: SimpleNamespace, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'Set5').mkdir()
    cv2.imwrite(str(tmp_path / 'Set5/one.png'), cv2.imread(str(photos / 'astronaut.png'))[:48, :48])
    with pytest.raises(SystemExit):
        peers.main([str(tmp_path / 'out'), '--images', str(tmp_path / 'Set5'), '--rows', 'bicubic'])
    assert 'found no MANet in ' in capsys.readouterr().err


def test_a_page_is_not_written_from_some_of_the_rows(
    peers: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        peers.main(['out', '--images', 'Set5', '--rows', 'IKC', '--page', 'page.md'])
    assert '--page: found with --rows, expected without it' in capsys.readouterr().err


def test_what_a_solver_made_of_other_kernels_or_in_another_version_is_not_taken(
    peers: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kernels may give one LR image, of which a solver that is told them makes two results."""
    (method,) = build_methods(['dip[kernel=true,steps=1,width=4]'])
    kept = peers.rows.Kept(method, tmp_path)
    condition = Condition('Set5', 'type1', {'type': 'fixed', 'variances': [1, 1]}, 2)
    lq = torch.full((3, 32, 32), 0.5)
    fields = [torch.full((441, 1, 1), 1 / 441), torch.zeros(441, 1, 1).index_fill(0, torch.tensor(220), 1)]
    for field in (*fields, fields[0]):
        found = kept.predict({'lq': lq, 'kernel': field}, condition).field
        assert found is not None and torch.equal(found[0], field)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(manet_basicsr, '__version__', '9.9.9')
    kept.predict({'lq': lq, 'kernel': fields[0]}, condition)
    assert len(list(tmp_path.iterdir())) == 3
