"""Reading and converting files of weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manet_basicsr.archs import IKCNet, MANet
from manet_basicsr.archs.loading import load_network
from manet_basicsr.weights import (
    choose_weights,
    convert_file,
    convert_state_dict,
    detect_stage,
    find_address,
    load_any_state_dict,
    load_pretrained,
    load_state_dict_file,
    resolve_weights,
    shipped_for,
    shipped_weights,
)
from manet_basicsr.weights import shipped as weights


@pytest.fixture
def estimator() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return MANet(kernel_size=3, num_feat=4).state_dict()


GENERATOR = {'pca_matrix': torch.ones(1, 9, 2, 1, 1), 'conv_first.weight': torch.ones(2, 3, 3, 3)}


def prefixed(state_dict: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state_dict.items()}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_reads_by_key_or_bare(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    averaged = {key: value + 1 for key, value in estimator.items()}
    named = saved(tmp_path / 'named.pth', {'params': estimator, 'params_ema': averaged})
    bare = saved(tmp_path / 'bare.pth', estimator)
    torch.testing.assert_close(load_state_dict_file(named), estimator)
    torch.testing.assert_close(load_state_dict_file(named, 'params_ema'), averaged)
    torch.testing.assert_close(load_state_dict_file(bare, None), estimator)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, estimator: dict[str, Tensor], value: float
) -> None:
    bad = {**estimator, 'm_tail.bias': estimator['m_tail.bias'] + value}
    named = saved(tmp_path / 'net.pth', {'params': estimator, 'params_ema': bad})
    load_state_dict_file(named)
    with pytest.raises(ValueError, match=r'net\.pth: m_tail\.bias is not finite .*: damaged, or of a training that'):
        load_state_dict_file(named, 'params_ema')
    for content in ({'params': estimator, 'params_ema': bad}, bad, {'state_dict': bad}):
        with pytest.raises(ValueError, match=r'net\.pth: m_tail\.bias is not finite'):
            load_any_state_dict(saved(tmp_path / 'net.pth', content))


def test_params_stand_in_for_missing_averages_as_in_basicsr(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    path = saved(tmp_path / 'net.pth', {'params': estimator})
    torch.testing.assert_close(load_state_dict_file(path, 'params_ema'), estimator)


def test_prefix_of_wrapped_networks_is_removed(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    path = saved(tmp_path / 'net.pth', {'params': prefixed(estimator, 'module.')})
    assert load_state_dict_file(path).keys() == estimator.keys()


def test_home_is_expanded(tmp_path: Path, estimator: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    saved(tmp_path / 'net.pth', estimator)
    assert load_state_dict_file('~/net.pth', None).keys() == estimator.keys()


@pytest.mark.parametrize('name', ['params', 'params_ema', 'state_dict', 'model'])
def test_one_state_dict_under_any_name_is_found(tmp_path: Path, estimator: dict[str, Tensor], name: str) -> None:
    path = saved(tmp_path / 'net.pth', {name: estimator, 'epoch': 3})
    torch.testing.assert_close(load_any_state_dict(path), estimator)


WRAPPINGS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    'DataParallel': lambda bare: prefixed(bare, 'module.'),
    'compiled': lambda bare: prefixed(bare, '_orig_mod.'),
    'compiled, then parallel': lambda bare: prefixed(bare, 'module._orig_mod.'),
    'parallel, then compiled': lambda bare: prefixed(bare, '_orig_mod.module.'),
    'compiled in part': lambda bare: {key.replace('m_body.', 'm_body._orig_mod.'): bare[key] for key in bare},
    'averaged by torch': lambda bare: {**prefixed(bare, 'module.'), 'n_averaged': torch.tensor(3)},
    'netG.': lambda bare: prefixed(bare, 'netG.'),
    'netG. and a tensor': lambda bare: {**prefixed(bare, 'netG.'), 'step': torch.tensor(3)},
    'beside a loss': lambda bare: {
        'state_dict': {**prefixed(bare, 'model.'), 'perceptual.vgg.conv1.weight': torch.ones(2)}, 'epoch': 3,
    },
    'averages beside, by prefixes': lambda bare: {
        'state_dict': {**{f'net.{key}': value + 1 for key, value in bare.items()}, **prefixed(bare, 'ema.')},
    },
    'beside a critic': lambda bare: {**prefixed(bare, 'net_g.'), 'net_d.conv0.weight': torch.ones(2)},
    'a module of a module': lambda bare: {'state_dict': prefixed(bare, 'model.net_g.'), 'epoch': 3},
    'Parameters': lambda bare: {key: nn.Parameter(value) for key, value in bare.items()},
    'extra entries': lambda bare: {**bare, 'epoch': 3, 'name': 'x4', 'args': {'lr': 1e-4}},
    'extra entries under a name': lambda bare: {'params': {**bare, 'epoch': 3}, 'iter': 5},
    'with an optimiser': lambda bare: {
        'model': bare, 'optimizer': {'state': {0: {'exp_avg': torch.ones(2)}}, 'param_groups': [{'lr': 0.1}]},
    },
    'deep': lambda bare: {'state': {'networks': {'netG': bare}}, 'loss': torch.ones(1)},
    'averages beside': lambda bare: {'model': {key: value + 1 for key, value in bare.items()}, 'model_ema': bare},
}  # fmt: skip


@pytest.mark.parametrize('wrapping', WRAPPINGS)
@pytest.mark.parametrize('released', [False, True])
def test_weights_are_found_in_every_usual_wrapping(
    tmp_path: Path, estimator: dict[str, Tensor], wrapping: str, released: bool
) -> None:
    bare = prefixed(estimator, 'kernel_estimation.') if released else dict(estimator)
    path = saved(tmp_path / 'net.pth', WRAPPINGS[wrapping](bare))
    found = load_any_state_dict(path)
    torch.testing.assert_close(convert_state_dict(found, 'basicsr'), dict(estimator), rtol=0, atol=0)
    assert not any(value.requires_grad for value in found.values())


def test_several_networks_in_a_file_are_not_guessed_between(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    path = saved(tmp_path / 'net.pth', {'first': estimator, 'second': GENERATOR})
    with pytest.raises(ValueError, match='net.pth holds several networks: first, second; save the one'):
        load_any_state_dict(path)


@pytest.mark.parametrize('prefix', ['netG.', 'model.net.', 'module.netG.'])
def test_a_name_before_all_keys_is_no_hindrance(tmp_path: Path, estimator: dict[str, Tensor], prefix: str) -> None:
    path = saved(tmp_path / 'net.pth', {'params': {**prefixed(estimator, prefix), 'epoch': 3}})
    network = MANet(kernel_size=3, num_feat=4)
    load_pretrained(network, path)
    torch.testing.assert_close(network.state_dict(), estimator, rtol=0, atol=0)
    inner = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))  # whose own keys have a common beginning
    load_pretrained(inner, saved(tmp_path / 'inner.pth', {'params': inner.state_dict()}))


def test_a_network_within_another_is_not_taken_for_it(tmp_path: Path) -> None:
    whole = IKCNet({'type': 'SFTRRDBNet', 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}, num_feat=8)
    path = saved(tmp_path / 'ikc.pth', {'params': whole.state_dict()})
    assert load_any_state_dict(path).keys() == whole.state_dict().keys()
    with pytest.raises(ValueError, match='ikc.pth'):
        load_network(path)


def test_files_without_weights_say_so(tmp_path: Path) -> None:
    for content, words in (({'epoch': 3}, 'holds epoch, expected'), ([1, 2], 'holds a list, expected a dict')):
        with pytest.raises(ValueError, match=words):
            load_any_state_dict(saved(tmp_path / 'net.pth', content))
    (tmp_path / 'photo.jpg').write_bytes(b'\xff\xd8\xff\xe0 no weights')
    with pytest.raises(ValueError, match=r'photo.jpg cannot be read as weights: torch saved no such file'):
        load_any_state_dict(tmp_path / 'photo.jpg')


def test_a_bare_file_read_by_key_names_the_remedy(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    path = saved(tmp_path / 'bare.pth', estimator)
    with pytest.raises(ValueError, match=r"bare.pth is a bare state dict, expected one under 'params'; param_key: ~"):
        load_state_dict_file(path)


def test_errors_say_what_was_found(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    path = saved(tmp_path / 'net.pth', {'params_ema': estimator, 'iter': 3})
    with pytest.raises(ValueError, match="net.pth holds params_ema, iter, expected 'params'; set param_key"):
        load_state_dict_file(path)
    with pytest.raises(ValueError, match=r'no state dict with param_key None: found params_ema, iter'):
        load_state_dict_file(path, None)
    with pytest.raises(ValueError, match=r"no state dict with param_key 'iter': found int"):
        load_state_dict_file(path, 'iter')
    with pytest.raises(ValueError, match='holds a list, expected a dict'):
        load_state_dict_file(saved(tmp_path / 'list.pth', [1]))
    with pytest.raises(FileNotFoundError, match=r'absent.pth: no such file'):
        load_state_dict_file(tmp_path / 'absent.pth')


class Mischief:
    """Pickled, it would make a folder when read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = saved(tmp_path / 'net.pth', {'params': Mischief(tmp_path / 'made')})
    with pytest.raises(ValueError, match='net.pth cannot be read as weights') as caught:
        load_state_dict_file(path)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', b'PK\x03\x04 cut off'])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'net.pth').write_bytes(content)
    with pytest.raises(ValueError, match='net.pth cannot be read as weights'):
        load_state_dict_file(tmp_path / 'net.pth')


def test_shapes_that_differ_are_told_in_one_line(tmp_path: Path) -> None:
    path = saved(tmp_path / 'net.pth', {'params': nn.Linear(3, 2).state_dict()})
    with pytest.raises(
        ValueError, match=r'net.pth .*Linear: weight is 2x3 in the file and 2x4 in the network'
    ) as caught:
        load_pretrained(nn.Linear(4, 2), path)
    assert '\n' not in str(caught.value)


def test_stages_are_told_by_their_keys(estimator: dict[str, Tensor]) -> None:
    released = prefixed(estimator, 'kernel_estimation.')
    assert detect_stage(released) == detect_stage(estimator) == 1
    assert detect_stage(GENERATOR) == 2
    assert detect_stage(released | GENERATOR) == 3
    for foreign in ({'body.0.weight': torch.ones(1)}, estimator | GENERATOR):
        with pytest.raises(ValueError, match=r'no weights of stage 1, 2 or 3: found'):
            detect_stage(foreign)


def test_only_stage_1_keys_differ_between_the_forms(estimator: dict[str, Tensor]) -> None:
    released = prefixed(estimator, 'kernel_estimation.')
    assert convert_state_dict(released, 'basicsr').keys() == estimator.keys()
    assert convert_state_dict(estimator, 'released').keys() == released.keys()
    assert convert_state_dict(released, 'released').keys() == released.keys()
    for state_dict in (GENERATOR, released | GENERATOR):
        assert convert_state_dict(state_dict, 'basicsr').keys() == state_dict.keys()


@pytest.mark.parametrize('stage', [1, 2, 3])
def test_files_round_trip(tmp_path: Path, estimator: dict[str, Tensor], stage: int) -> None:
    released = prefixed(estimator, 'kernel_estimation.')
    original = {1: released, 2: GENERATOR, 3: released | GENERATOR}[stage]
    source = saved(tmp_path / 'released.pth', original)
    assert convert_file(source, tmp_path / 'basicsr.pth', 'basicsr') == stage
    assert convert_file(tmp_path / 'basicsr.pth', tmp_path / 'again.pth', 'released') == stage
    again = load_state_dict_file(tmp_path / 'again.pth', None)
    assert list(again) == list(original)
    torch.testing.assert_close(again, dict(original), rtol=0, atol=0)
    assert {path.name for path in tmp_path.iterdir()} == {'released.pth', 'basicsr.pth', 'again.pth'}


def test_released_files_take_the_averaged_weights(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    averaged = {key: value + 1 for key, value in estimator.items()}
    source = saved(tmp_path / 'net.pth', {'params': estimator, 'params_ema': averaged})
    convert_file(source, tmp_path / 'released.pth', 'released')
    torch.testing.assert_close(
        load_state_dict_file(tmp_path / 'released.pth', None), prefixed(averaged, 'kernel_estimation.')
    )
    convert_file(source, tmp_path / 'released.pth', 'released', param_key='params', overwrite=True)
    torch.testing.assert_close(
        load_state_dict_file(tmp_path / 'released.pth', None), prefixed(estimator, 'kernel_estimation.')
    )


def test_conversion_refuses_what_is_converted_already(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    bare, named = saved(tmp_path / 'bare.pth', GENERATOR), saved(tmp_path / 'named.pth', {'params': GENERATOR})
    with pytest.raises(ValueError, match=r'bare.pth is a bare state dict, expected a BasicSR file'):
        convert_file(bare, tmp_path / 'target.pth', 'released')
    with pytest.raises(ValueError, match=r'named.pth is a BasicSR file .*, expected a bare state dict'):
        convert_file(named, tmp_path / 'target.pth', 'basicsr')
    assert not (tmp_path / 'target.pth').exists()


def test_conversion_does_not_overwrite_unless_told(tmp_path: Path) -> None:
    source, target = saved(tmp_path / 'bare.pth', GENERATOR), tmp_path / 'target.pth'
    target.write_text('mine')
    with pytest.raises(FileExistsError, match=r'target.pth already exists; overwrite=True'):
        convert_file(source, target, 'basicsr')
    assert target.read_text() == 'mine'
    convert_file(source, target, 'basicsr', overwrite=True)
    assert load_state_dict_file(target).keys() == GENERATOR.keys()


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, estimator: dict[str, Tensor]) -> Path:
    """A package in which the weights ``small_x4`` ship."""
    package = tmp_path / 'package'
    (package / 'weights_data').mkdir(parents=True)
    torch.save({'params': estimator}, package / 'weights_data/small_x4.pth')
    monkeypatch.setattr(weights.resources, 'files', lambda name: package)
    return package / 'weights_data/small_x4.pth'


def test_weights_that_ship_are_found_by_name(shipped: Path, estimator: dict[str, Tensor]) -> None:
    assert shipped_weights() == ['small_x4']
    assert resolve_weights('weights://small_x4') == shipped
    assert load_state_dict_file('weights://small_x4').keys() == estimator.keys()


def test_a_name_that_does_not_ship_is_told_with_those_that_do(shipped: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'weights://big does not ship .*\(weights://small_x4 do\)'):
        resolve_weights('weights://big')
    shipped.unlink()
    with pytest.raises(FileNotFoundError, match=r'\(this version ships no weights\); give a file'):
        resolve_weights('weights://small_x4')


def test_a_bare_name_is_that_of_weights_that_ship_unless_a_file_has_it(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_address('small_x4') == 'weights://small_x4'
    for given in ('big_x4', 'small_x4.pth', 'weights://small_x4'):
        assert find_address(given) == given
    Path('small_x4').mkdir()  # results may be in a folder of that name
    assert resolve_weights('small_x4') == shipped
    Path('small_x4').rmdir()
    Path('small_x4').touch()
    assert find_address('small_x4') == 'small_x4'
    with pytest.raises(FileNotFoundError, match='big_x4: no such file of weights; those that ship are small'):
        resolve_weights('big_x4')


@pytest.mark.parametrize(
    ('scale', 'names', 'chosen'),
    [
        (4, ['blind_x2', 'blind_x4', 'manet_x3'], 'blind_x4'),
        (4, ['blind_x4', 'real_x4'], 'real_x4'),
        (1.5, ['blind_x2', 'blind_x4', 'real_x4'], 'real_x4'),  # the kind comes before the least scale
        (1, ['blind_x4', 'real_x1', 'real_x2'], 'real_x2'),
        (1, ['blind_x1', 'blind_x4', 'real_x1'], 'blind_x1'),
        (1, ['real_x1'], None),
        (3, ['manet_x3', 'blind_x2', 'other_x4', 'real'], None),
        (float('nan'), ['blind_x4'], None),
        (4, [], None),
    ],
)
def test_the_weights_chosen_are_of_the_least_scale_that_reaches_and_of_the_preferred_kind(
    scale: float, names: list[str], chosen: str | None
) -> None:
    assert choose_weights(scale, names) == choose_weights(scale, names[::-1]) == chosen


def test_the_weights_for_a_scale_are_not_those_that_are_only_taken_by_name() -> None:
    assert [shipped_for(scale) for scale in (1, 2, 4)] == ['blind_x1', 'real_x2', 'real_x4']
    assert shipped_for(3, ('real', 'manet')) == 'manet_x3'
    assert shipped_for(8) is None


@pytest.mark.parametrize('is_damaged', [False, True])
def test_a_training_state_is_called_one_with_the_place_of_its_networks(tmp_path: Path, is_damaged: bool) -> None:
    for folder in ('training_states', 'models'):
        (tmp_path / folder).mkdir()
    state = saved(
        tmp_path / 'training_states/8000.state', {'epoch': 1, 'iter': 8000, 'optimizers': [], 'schedulers': []}
    )
    if is_damaged:
        state.write_bytes(state.read_bytes()[:100])
    words = r'8000.state is a training state, .*: found no network in it, expected '
    with pytest.raises(ValueError, match=f'{words}net_g_8000.pth in the folder models beside training_states$'):
        load_any_state_dict(state)
    (tmp_path / 'models/net_g_8000.pth').touch()
    with pytest.raises(ValueError, match=f'{words}{tmp_path}/models/net_g_8000.pth$'):
        load_any_state_dict(state)


def test_any_form_is_read_without_a_key(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    averaged = {key: value + 1 for key, value in estimator.items()}
    for content, expected in (
        ({'params': estimator, 'params_ema': averaged}, averaged),
        ({'params': estimator}, estimator),
        (estimator, estimator),
    ):
        found = load_any_state_dict(saved(tmp_path / 'net.pth', content))
        torch.testing.assert_close(found, dict(expected), rtol=0, atol=0)


def test_safetensors_round_trip(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    pytest.importorskip('safetensors', reason='the extra safetensors is not installed')
    source = saved(tmp_path / 'net.pth', {'params': estimator})
    assert convert_file(source, tmp_path / 'net.safetensors', 'released') == 1
    released = load_any_state_dict(tmp_path / 'net.safetensors')
    torch.testing.assert_close(released, prefixed(estimator, 'kernel_estimation.'), rtol=0, atol=0)
    convert_file(tmp_path / 'net.safetensors', tmp_path / 'again.pth', 'basicsr')
    torch.testing.assert_close(load_state_dict_file(tmp_path / 'again.pth'), dict(estimator), rtol=0, atol=0)
    convert_file(tmp_path / 'net.safetensors', tmp_path / 'bare.pth', 'released')
    assert load_state_dict_file(tmp_path / 'bare.pth', None).keys() == released.keys()


def test_safetensors_hold_bare_state_dicts_only(tmp_path: Path, estimator: dict[str, Tensor]) -> None:
    pytest.importorskip('safetensors', reason='the extra safetensors is not installed')
    source = saved(tmp_path / 'net.pth', prefixed(estimator, 'kernel_estimation.'))
    with pytest.raises(ValueError, match="net.safetensors: .* expected the form 'released'"):
        convert_file(source, tmp_path / 'net.safetensors', 'basicsr')
    (tmp_path / 'net.safetensors').write_bytes(b'no tensors')
    with pytest.raises(ValueError, match='net.safetensors cannot be read as weights'):
        load_any_state_dict(tmp_path / 'net.safetensors')


def test_a_path_with_an_unknown_user_is_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match='~nobody-of-this-name/w.pth: no such file of weights'):
        resolve_weights('~nobody-of-this-name/w.pth')
