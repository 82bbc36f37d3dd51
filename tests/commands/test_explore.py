"""The manet-explore command: which images and fields it puts into a page."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from manet_basicsr import restore
from manet_basicsr.commands import explore
from manet_basicsr.commands.explore import build_parser, main
from manet_basicsr.data.field_files import save_field
from manet_basicsr.degradation import protocol_field
from manet_basicsr.weights import shipped as weights
from tests.small_networks import blind_network, blind_weights


@pytest.fixture(autouse=True)
def photo(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photograph of 48x40 px in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('photo.png', cv2.imread(str(photos / 'astronaut.png'))[:40, :48])
    return tmp_path / 'photo.png'


def contents(path: str = 'photo_kernels.html') -> tuple[list[str], list[str], dict[str, Any]]:
    """The images and fields of a page, and all its data."""
    found = re.search(r'application/json">(.*?)</script>', Path(path).read_text(), re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    return [image['name'] for image in data['images']], [field['name'] for field in data['fields']], data


def test_a_photograph_is_restored_and_its_kernels_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['photo.png', '--weights', str(blind_weights(tmp_path, 2))]) == 0
    images, fields, data = contents()
    assert (images, fields) == (['LR image', 'restored'], ['estimated'])
    assert (data['width'], data['height'], data['scale'], data['title']) == (48, 40, 2, 'photo.png')
    out = capsys.readouterr().out
    assert 'photo_kernels.html: ' in out and 'estimated: ' in out and 'of the peak (rms)' in out


def test_an_estimator_alone_shows_kernels(tmp_path: Path) -> None:
    torch.save(blind_network().kernel_estimation.state_dict(), 'estimator.pth')
    assert main(['photo.png', '--weights', 'estimator.pth', '-o', 'a.html', '--scale', '3', '--title', 'Cat']) == 0
    images, fields, data = contents('a.html')
    assert (images, fields, data['scale'], data['title']) == (['LR image'], ['estimated'], 3, 'Cat')


@pytest.mark.parametrize('scale', [2, 3])
def test_pages_of_shipped_estimators_are_drawn_at_their_scale(scale: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['photo.png', '--weights', f'weights://manet_x{scale}']) == 0
    assert contents()[2]['scale'] == scale
    assert main(['photo.png', '--weights', f'weights://manet_x{scale}', '--scale', '4', '-o', 'b.html']) == 2
    assert f'--scale: found 4, but weights://manet_x{scale} is for x{scale}' in capsys.readouterr().err


def test_where_no_weights_restore_those_of_an_estimator_show_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('manet_basicsr.weights.shipped.shipped_weights', lambda: ['manet_x3'])
    assert main(['photo.png', '--scale', '3']) == 0
    images, fields, data = contents()
    assert (images, fields, data['scale']) == (['LR image'], ['estimated'], 3)


def test_an_estimator_with_damaged_weights_makes_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    state_dict = blind_network().kernel_estimation.state_dict()
    state_dict['m_tail.bias'][7] = float('nan')
    torch.save(state_dict, 'nan.pth')
    assert main(['photo.png', '--weights', 'nan.pth']) == 2
    assert 'nan.pth: m_tail.bias is not finite (NaN or infinite): damaged, or' in capsys.readouterr().err
    assert not Path('photo_kernels.html').exists()


def test_saved_fields_need_no_network(tmp_path: Path) -> None:
    true = protocol_field(4, 160, 192, 4)
    field = restore(cv2.imread('photo.png')[..., ::-1], blind_network(4)).field
    assert field is not None
    save_field('true.npz', true, scale=4, alignment='centered')
    save_field('estimated.npz', field, scale=4, alignment='centered')
    assert main(['photo.png', '--field', 'estimated.npz', '--true', 'true.npz']) == 0
    assert contents()[:2] == (['LR image'], ['estimated', 'true'])
    assert main(['photo.png', '--true', 'true.npz', '--overwrite']) == 0
    assert contents()[:2] == (['LR image'], ['true'])


def test_a_photograph_that_is_blurred_here_has_known_kernels(tmp_path: Path) -> None:
    assert main(['photo.png', '--degrade', '4', '--weights', str(blind_weights(tmp_path, 2))]) == 0
    images, fields, data = contents()
    assert (images, fields) == (['LR image', 'restored', 'original'], ['estimated', 'true'])
    assert (data['width'], data['height'], data['scale']) == (24, 20, 2)
    assert main(['photo.png', '--degrade', '1', '--scale', '4', '--overwrite']) == 0
    images, fields, data = contents()
    assert (images, fields, data['width']) == (['LR image', 'original'], ['true'], 12)


@pytest.mark.parametrize(
    ('arguments', 'code', 'words'),
    [
        (['photo.png'], 2, 'no weights ship with this version yet; for x4'),
        (['absent.png', '--degrade', '1'], 2, 'absent.png: no such file'),
        (['photo.png', '--weights', 'absent.pth'], 2, 'absent.pth: no such file of weights'),
        (['photo.png', '--device', 'mps'], 2, "device 'mps' is not one of cpu, cuda, cuda:0"),
        (['photo.png', '-o', 'page.txt'], 2, '-o page.txt: expected the name of a file that ends in .html'),
        (['photo.png', '--weights', 'a.pth', '--field', 'b.npz'], 2, '--field and --weights both give'),
        (['photo.png', '--weights', 'generator.pth'], 2, 'generator.pth: a SFTRRDBNet estimates no kernels'),
        (['photo.png', '--field', 'absent.npz'], 1, 'absent.npz: no such field file'),
        (
            ['photo.png', '--field', 'other.npz', '--true', 'x4.npz'],
            1,
            'scale: found 2 of --field other.npz, 4 of --true x4.npz, expected the same',
        ),
        (
            ['photo.png', '--field', 'other.npz', '--scale', '4'],
            1,
            'scale: found 2 of --field other.npz, 4 of --scale,',
        ),
        (
            ['photo.png', '--field', 'x4.npz', '--true', 'published.npz'],
            1,
            'alignment: found centered of --field x4.npz, published of --true published.npz, expected the same',
        ),
        (
            ['photo.png', '--weights', 'blind_x2.pth', '--true', 'x4.npz'],
            1,
            'scale: found 4 of --true x4.npz, 2 of the weights, expected the same',
        ),
        (['photo.png', '--field', 'other.npz'], 1, 'the estimated field is for an image of 10x20 px'),
        (['bad.png', '--degrade', '1'], 1, 'bad.png: damaged'),
        (['photo.png', '--degrade', '1', '-o', 'mine.html'], 2, 'mine.html already exists; --overwrite replaces it'),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(blind_network().generator.state_dict(), 'generator.pth')
    save_field('other.npz', torch.full((9, 20, 10), 1 / 9), scale=2, alignment='centered')
    for name, alignment in (('x4', 'centered'), ('published', 'published')):
        save_field(f'{name}.npz', torch.full((9, 40, 48), 1 / 9), scale=4, alignment=alignment)
    blind_weights(Path(), 2)
    Path('bad.png').write_bytes(b'no image')
    Path('mine.html').write_text('mine')
    monkeypatch.setattr(weights.resources, 'files', lambda name: Path('/nowhere'))
    assert main(arguments) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('manet-explore: error: ') and words in line
    assert Path('mine.html').read_text() == 'mine' and not Path('photo_kernels.html').exists()


def test_where_memory_runs_out_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 21168000000 bytes")

    monkeypatch.setattr(explore, 'restore', fail)
    blind_weights(Path(), 2)
    assert main(['photo.png', '--weights', 'blind_x2.pth']) == 1
    assert capsys.readouterr().err == (
        'manet-explore: error: memory ran out; give a smaller image, such as the part that is looked at\n'
    )


def test_what_is_blurred_here_is_blurred_as_saved_kernels_are() -> None:
    save_field('estimated.npz', torch.full((9, 20, 24), 1 / 9), scale=2, alignment='published')
    assert main(['photo.png', '--field', 'estimated.npz', '--degrade', '4']) == 0
    images, fields, data = contents()
    assert (images, fields) == (['LR image', 'original'], ['estimated', 'true'])
    assert (data['width'], data['scale']) == (24, 2)
    assert [field['kernelSize'] for field in data['fields']] == [3, 3]


def test_help_has_examples() -> None:
    assert build_parser().format_help().count('\n  manet-explore ') == 4


def test_transparent_photographs_are_shown_on_white(tmp_path: Path) -> None:
    opaque: Any = cv2.imread('photo.png')
    photo = np.dstack([opaque, np.zeros((40, 48), np.uint8)])
    photo[10:20, 10:20, 3] = 255
    cv2.imwrite('clear.png', photo)
    assert main(['clear.png', '--weights', str(blind_weights(tmp_path, 2))]) == 0
    assert main(['clear.png', '--degrade', '1', '-o', 'blurred.html']) == 0
    for image in contents('clear_kernels.html')[2]['images'] + contents('blurred.html')[2]['images']:
        content = np.frombuffer(base64.b64decode(image['source'].partition(',')[2]), np.uint8)
        assert cv2.imdecode(content, cv2.IMREAD_UNCHANGED)[0, 0].tolist() == [255, 255, 255]


def test_deep_and_transparent_photographs_are_explored(tmp_path: Path) -> None:
    photo = cv2.imread('photo.png')
    assert photo is not None
    cv2.imwrite('deep.png', np.dstack([photo, photo[..., 0]]).astype(np.uint16) * 257)
    assert main(['deep.png', '--weights', str(blind_weights(tmp_path, 2))]) == 0
    assert contents('deep_kernels.html')[0] == ['LR image', 'restored']
