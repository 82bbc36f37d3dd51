"""The manet-restore command: what it writes, what it leaves alone, and what it says."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from manet_basicsr import Restored, load_field, restore
from manet_basicsr.archs import BlindSRNet
from manet_basicsr.commands import restore as command_module
from manet_basicsr.commands import ways
from manet_basicsr.commands.inputs import list_inputs
from manet_basicsr.commands.restore import build_parser, main
from manet_basicsr.data.alpha import enlarge_alpha
from manet_basicsr.data.image_files import decode_image_file
from manet_basicsr.weights import describe_shipped
from manet_basicsr.weights import shipped as weights
from tests.small_networks import blind_network, blind_weights

pytestmark = pytest.mark.usefixtures('here')


@pytest.fixture
def network(here: Path) -> str:
    return str(blind_weights(here, 2))


@pytest.fixture
def images(photos: Path, here: Path) -> Path:
    """A folder with a colour, a deep and a transparent photograph, small ones."""
    folder = here / 'photographs'
    folder.mkdir()
    photo = cv2.imread(str(photos / 'astronaut.png'))[:30, :40]
    cv2.imwrite(str(folder / 'a.jpg'), photo)
    cv2.imwrite(str(folder / 'b.png'), photo[..., 0].astype(np.uint16) * 257)
    cv2.imwrite(str(folder / 'c.PNG'), np.dstack([photo, photo[..., 0]]))
    (folder / 'notes.txt').write_text('not an image')
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_restored_under_predictable_names(
    images: Path, network: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(images), '-o', 'new/restored', '--weights', network]) == 0
    assert names(here / 'new/restored') == ['a_x2.png', 'b_x2.png', 'c_x2.png']
    shapes = [cv2.imread(f'new/restored/{name}_x2.png', cv2.IMREAD_UNCHANGED) for name in 'abc']
    assert [image.shape for image in shapes] == [(60, 80, 3), (60, 80), (60, 80, 4)]
    assert [image.dtype for image in shapes] == [np.uint8, np.uint16, np.uint8]
    expected = restore(cv2.imread(str(images / 'a.jpg'))[..., ::-1], network).image
    assert np.abs(shapes[0][..., ::-1].astype(int) - expected).max() <= 1
    assert capsys.readouterr().out.count('-> new/restored/') == 3


def test_names_get_the_suffix_that_is_asked_for(
    images: Path, network: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in ('', '.sharp'):
        assert main([str(images / 'a.jpg'), '-o', 'out', '--weights', network, f'--suffix={suffix}']) == 0
    assert names(here / 'out') == ['a.png', 'a.sharp.png']
    capsys.readouterr()
    assert main(['out', str(images / 'a.jpg'), '-o', 'new', '--weights', network, '--suffix', '/../x']) == 2
    assert "--suffix: found '/../x', expected text without a folder" in capsys.readouterr().err


def test_alpha_is_resampled_or_restored_as_a_grey_image(images: Path, network: str, here: Path) -> None:
    for alpha in ('resample', 'restore'):
        command = [str(images / 'c.PNG'), '-o', alpha, '--weights', network, '--alpha', alpha]
        assert main(command) == 0
    pixels = cv2.imread(str(images / 'c.PNG'), cv2.IMREAD_UNCHANGED)
    resampled, restored = (cv2.imread(f'{a}/c_x2.png', cv2.IMREAD_UNCHANGED) for a in ('resample', 'restore'))
    assert np.array_equal(resampled[..., :3], restored[..., :3])
    assert np.array_equal(resampled[..., 3], enlarge_alpha(pixels[..., 3], 2))
    expected = restore(np.ascontiguousarray(pixels[..., 3]), network).image
    assert np.array_equal(restored[..., 3], expected)
    assert not np.array_equal(restored[..., 3], resampled[..., 3])


def test_kernels_and_figures_are_saved_beside_the_image(images: Path, network: str, here: Path) -> None:
    pytest.importorskip('matplotlib', reason='the extra plot is not installed')
    assert main([str(images / 'a.jpg'), '-o', 'out', '--weights', network, '--kernels', '--figure']) == 0
    assert names(here / 'out') == ['a_x2.png', 'a_x2_figure.pdf', 'a_x2_figure.png', 'a_x2_kernels.npz']
    saved = load_field('out/a_x2_kernels.npz')
    assert (saved.field.shape, saved.scale, saved.alignment) == ((1, 441, 30, 40), 2, 'centered')
    field = restore(cv2.imread(str(images / 'a.jpg'))[..., ::-1], network).field
    assert field is not None
    torch.testing.assert_close(saved.field, field, rtol=2e-3, atol=1e-6)  # float16


def test_other_formats_are_written_on_request(images: Path, network: str, here: Path) -> None:
    for kind in ('tif', 'jpg', 'webp'):
        assert main([str(images / 'a.jpg'), '-o', 'out', '--weights', network, '--format', kind]) == 0
    assert names(here / 'out') == ['a_x2.jpg', 'a_x2.tif', 'a_x2.webp']


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [([], 'auto'), (['--precision', 'bf16'], 'bf16'), (['--half'], 'bf16'), (['--precision', 'float32'], 'float32')],
)
def test_the_precision_is_passed_on(
    images: Path, network: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    asked = []

    def spy(*args: Any, precision: str, **options: Any) -> Restored:
        asked.append(precision)
        return restore(*args, precision=precision, **options)

    monkeypatch.setattr(ways, 'restore', spy)
    assert main([str(images / 'a.jpg'), '-o', 'out', '--weights', network, '--device', 'cpu', *arguments]) == 0
    assert asked == [expected]


def test_what_is_there_is_left_alone_unless_told(
    images: Path, network: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / 'out').mkdir()
    (here / 'out/a_x2.png').write_text('mine')
    command = [str(images / 'a.jpg'), '-o', 'out', '--weights', network]
    assert main(command) == 0
    assert 'out/a_x2.png already exists; --overwrite replaces it' in capsys.readouterr().out
    assert main([*command, '--kernels']) == 0  # what is missing is made, what is there stays
    assert f'{images / "a.jpg"} -> out/a_x2_kernels.npz (' in capsys.readouterr().out
    assert (here / 'out/a_x2_kernels.npz').is_file()
    assert (here / 'out/a_x2.png').read_text() == 'mine'
    assert main([*command, '--overwrite']) == 0
    assert cv2.imread('out/a_x2.png').shape == (60, 80, 3)


def test_an_image_that_was_enlarged_before_is_told(
    photos: Path, network: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Image.open(photos / 'coffee.png').crop((0, 0, 80, 60))
    small.resize((240, 180), Image.Resampling.BICUBIC).save(here / 'large.png')
    assert main(['large.png', '-o', 'out', '--weights', network]) == 0
    said = capsys.readouterr().out
    assert 'note: large.png: it seems to have been enlarged before, perhaps 1.5 or 3 times; reduced to its' in said


def test_bad_files_are_listed_at_the_end_and_the_others_restored(
    images: Path, network: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / 'aa.png').write_bytes(b'no image')
    assert main([str(images), 'absent.png', 'none/*.png', '-o', 'out', '--weights', network]) == 1
    assert names(here / 'out') == ['a_x2.png', 'b_x2.png', 'c_x2.png']
    assert capsys.readouterr().err.splitlines()[-4:] == [
        '3 failed:',
        '  absent.png: No such file or directory',
        '  none/*.png: no images match',
        f'  {images}/aa.png: damaged, or no PNG, JPEG, WebP, TIFF, BMP, GIF or PNM image (8 bytes)',
    ]


@pytest.mark.parametrize('more', [[], ['photographs']], ids=['alone', 'beside others'])
def test_a_wrong_path_is_reported_once(
    images: Path, network: str, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert main(['absent.png', *more, '-o', 'out', '--weights', network]) == 1
    said = capsys.readouterr()
    assert said.err == '1 failed:\n  absent.png: No such file or directory\n' and 'absent' not in said.out


def test_a_bad_image_is_reported_once_where_it_is_the_last(
    images: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / 'bad.png').write_bytes(b'no image')
    assert main([str(images / 'bad.png'), '-o', 'out', '--weights', network]) == 1
    assert capsys.readouterr().err.count('bad.png') == 1
    assert main([str(images), '-o', 'out', '--weights', network]) == 1
    err = capsys.readouterr().err  # what fails in a long run is said at once, and listed at the end
    assert err.count('bad.png') == 2 and err.startswith(f'failed: {images}/bad.png: damaged')


def test_help_of_weights_lists_what_ships_and_needs_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='0'):
        main(['--weights', 'help'])
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()] == [
        f'weights://{known.name}' for known in describe_shipped()
    ]
    words = (
        'x4, restores photographs without noise; trained on Gaussian blur of variance 0.7 to 10 px², no noise, no JPEG'
    )
    assert f'weights://blind_x4  {words}; 10.3 MB\n' in said


def test_weights_that_ship_are_found_by_their_bare_name_unless_a_file_has_it(
    images: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def spy(given: str | None, scale: float | None) -> BlindSRNet:
        asked.append(given)
        return blind_network(2)

    monkeypatch.setattr(ways, 'network_for', spy)
    for output in ('first', 'second'):
        assert main([str(images / 'a.jpg'), '-o', output, '--weights', 'blind_x4']) == 0
        Path('blind_x4').touch()
    assert asked == ['weights://blind_x4', 'blind_x4']


def test_a_training_state_as_weights_is_one_line(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({'epoch': 1, 'iter': 8, 'optimizers': [], 'schedulers': []}, '8.state')
    assert main([str(images), '-o', 'out', '--weights', '8.state']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('manet-restore: error: 8.state is a training state, from which a run goes on')
    assert 'net_g_8.pth' in line


def test_two_inputs_of_one_name_do_not_overwrite_each_other(
    images: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(images / 'b.png', images / 'a.png')
    assert main([str(images / 'a.jpg'), str(images / 'a.png'), '-o', 'out', '--weights', network, '--overwrite']) == 1
    assert 'a.png: would be out/a_x2.png, as' in capsys.readouterr().err
    assert cv2.imread('out/a_x2.png', cv2.IMREAD_UNCHANGED).ndim == 3


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_damaged_weights_write_nothing(images: Path, capsys: pytest.CaptureFixture[str], value: float) -> None:
    state_dict = blind_network(2).state_dict()
    state_dict['trunk_conv.bias'][3] = value
    torch.save(state_dict, 'damaged.pth')
    assert main([str(images / 'a.jpg'), '-o', 'out', '--weights', 'damaged.pth']) == 2
    assert 'damaged.pth: trunk_conv.bias is not finite (NaN or infinite): damaged, or' in capsys.readouterr().err
    assert not Path('out').exists()


@pytest.mark.parametrize('device', ['mps', 'xpu', 'meta', 'hip', 'vulkan', 'cuda:9'])
def test_an_unknown_device_is_one_line(images: Path, capsys: pytest.CaptureFixture[str], device: str) -> None:
    assert main([str(images / 'a.jpg'), '-o', 'out', '--device', device]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"manet-restore: error: device '{device}'")


def test_too_little_memory_fails_that_image_only(
    images: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(images / 'a.jpg'), '-o', 'out', '--weights', network, '--max-memory', '5M']) == 1
    assert 'a 40x30 image needs about' in capsys.readouterr().err
    assert not list(Path('out').iterdir())


def test_an_error_of_any_kind_costs_its_file_alone(
    images: Path, network: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(content: bytes, name: str) -> Any:
        if name.endswith('a.jpg'):
            raise SyntaxError('broken file')
        return decode_image_file(content, name)

    monkeypatch.setattr(command_module, 'decode_image_file', refuse)
    assert main([str(images / 'a.jpg'), str(images / 'c.PNG'), '-o', 'out', '--weights', network]) == 1
    assert names(Path('out')) == ['c_x2.png']
    assert f'{images / "a.jpg"}: broken file' in capsys.readouterr().err


@pytest.mark.parametrize('way', [['--weights', 'network'], ['--method', 'dip']])
def test_where_memory_runs_out_the_remedy_is_one_that_is_taken(
    way: list[str], images: Path, network: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ways.Way, 'restore', fail)
    assert main([str(images / 'a.jpg'), '-o', 'out', *way[:1], way[1].replace('network', network)]) == 1
    said = capsys.readouterr().err
    assert 'memory ran out; give ' in said and ('--max-memory' in said) == (way[0] == '--weights')


def test_without_a_folder_for_a_moment_a_stream_is_refused_in_a_line(
    images: Path, network: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise FileNotFoundError(2, 'No usable temporary directory found')

    monkeypatch.setattr(command_module.tempfile, 'TemporaryDirectory', fail)
    assert main([str(images / 'a.jpg'), '-o', '-', '--weights', network]) == 2
    assert '-o -: found no folder for a moment' in capsys.readouterr().err


def test_files_folders_and_globs_are_found_once_each(images: Path) -> None:
    (images / 'deep').mkdir()
    shutil.copy(images / 'a.jpg', images / 'deep/z.jpg')
    (images / '.hidden.png').write_text('')
    given = [str(images / 'c.PNG'), str(images), f'{images}/**/*.jpg', f'{images}/deep']
    files, left_out, problems = list_inputs(given, Path('out'), '_x2')
    assert [file.name for file in files] == ['c.PNG', 'a.jpg', 'b.png', 'z.jpg']
    assert not problems and not left_out
    (images / 'empty').mkdir()
    assert list_inputs([f'{images}/empty'], Path('out'), '_x2')[2] == [
        f'{images}/empty: no images in this folder (.png, .jpg, .jpeg, .bmp, .tif, .tiff, .webp)'
    ]


@pytest.mark.parametrize('output', ['photographs', 'photographs/out'])
def test_a_glob_does_not_find_the_results_of_an_earlier_run(
    images: Path, network: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['photographs/**/*.jpg', 'photographs/**/*.png', '-o', output, '--weights', network]
    assert main(command) == main(command) == 0
    said = capsys.readouterr().out
    assert said.count('-> ') == 2 and 'left out as results of other images' in said
    assert {path.name for path in images.rglob('*_x2*')} == {'a_x2.png', 'b_x2.png'}
    assert main([f'{output}/a_x2.png', '-o', 'out', '--weights', network]) == 0, 'named, it is an image as any other'
    assert Path('out/a_x2_x2.png').is_file()


def test_an_image_is_not_taken_for_its_own_result(
    images: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(images / 'z.png'), np.zeros((20, 24, 3), np.uint8))
    before = (images / 'z.png').read_bytes()
    assert main([str(images / 'z.png'), '-o', str(images), '--suffix', '', '--weights', network]) == 1
    assert 'which is an input; give another -o' in capsys.readouterr().err
    assert (images / 'z.png').read_bytes() == before


def test_without_a_suffix_an_image_is_not_left_out_as_a_result_of_itself(images: Path, network: str) -> None:
    assert main(['photographs/*.jpg', '-o', 'photographs', '--suffix', '', '--weights', network]) == 0
    assert (images / 'a.png').is_file()


def test_in_the_images_own_folder_an_interrupted_run_is_finished(
    images: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['photographs/*.jpg', '-o', 'photographs', '--weights', network]
    assert main(command) == 0
    before = (images / 'a_x2.png').stat().st_mtime_ns
    assert main([*command, '--kernels']) == 0, capsys.readouterr().err
    assert (images / 'a_x2_kernels.npz').is_file()
    assert (images / 'a_x2.png').stat().st_mtime_ns == before


def test_images_named_like_results_are_not_overwritten(
    images: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = cv2.imread(str(images / 'a.jpg'))
    for name in ('a_x2.png', 'a_x1000.png'):
        cv2.imwrite(str(images / name), photo)
    before = (images / 'a_x2.png').read_bytes()
    assert main(['photographs/a*', '-o', './photographs', '--weights', network, '--overwrite']) == 1
    assert 'would be written over' in capsys.readouterr().err
    assert (images / 'a_x2.png').read_bytes() == before
    assert (images / 'a_x1000_x2.png').is_file(), 'the scale is another: no result'


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--weights', 'absent.pth'], 'absent.pth: no such file of weights'),
        (['--weights', 'weights://big'], 'weights://big does not ship with the package'),
        (['--quality', '0'], '--quality: found 0, expected 1 to 100'),
        (['--tile', '8'], '--tile: found 8, expected at least 16'),
        (['--device', 'gpu'], "device 'gpu' is not one of cpu, cuda"),
        (['-o', 'photographs'], '-o photographs is also an input; give another folder'),
        ([], 'no weights ship with this version yet; for x4, train a blind network'),
    ],
)
def test_wrong_options_are_one_line_and_2(
    images: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights.resources, 'files', lambda name: Path('/nowhere'))
    output = [] if '-o' in arguments else ['-o', 'out']
    assert main(['photographs', *output, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'manet-restore: error: {words}')
    assert not Path('out').exists()


@pytest.mark.parametrize('scale', ['3', '0.5', '0', 'nan', '-1'])
def test_a_scale_that_the_weights_cannot_give_is_refused(
    images: Path, network: str, scale: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['photographs', '-o', 'out', '--weights', network, f'--scale={scale}']) == 2
    said = f'manet-restore: error: found scale {scale}, expected 1 to 2, the scale of the weights\n'
    assert capsys.readouterr().err == said
    assert not Path('out').exists()


@pytest.mark.parametrize(('scale', 'size'), [('1', (40, 30)), ('1.3', (52, 39)), ('2', (80, 60))])
def test_a_smaller_scale_is_reached_by_reducing_with_a_word(
    images: Path, network: str, scale: str, size: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(images), '-o', 'out', '--weights', network, '--scale', scale, '--kernels']
    assert main(command) == 0
    assert ('restored at x2, the scale of the weights, and reduced to' in capsys.readouterr().out) == (scale != '2')
    for name, channels in (('a', 3), ('b', 1), ('c', 4)):
        image = cv2.imread(f'out/{name}_x{scale}.png', cv2.IMREAD_UNCHANGED)
        assert image.reshape(*image.shape[:2], -1).shape == (size[1], size[0], channels)
        saved = load_field(f'out/{name}_x{scale}_kernels.npz')
        assert saved.field.shape[-2:] == (30, 40) and saved.scale == 2, 'kernels are those of the weights'


def test_a_wrong_size_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['a.png', '-o', 'out', '--max-memory', 'much'])
    assert "found 'much', expected a size such as 800M or 4G" in capsys.readouterr().err


def test_help_has_an_example() -> None:
    assert 'manet-restore photo.jpg -o restored ' in build_parser().format_help()


def test_an_input_is_never_written_over(
    images: Path, network: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / 'a.jpg').write_bytes((images / 'a.jpg').read_bytes())
    (here / 'a_x2.png').write_bytes((images / 'a.jpg').read_bytes())
    assert main(['a.jpg', 'a_x2.png', '-o', '.', '--weights', network, '--overwrite']) == 1
    assert (here / 'a_x2.png').read_bytes() == (images / 'a.jpg').read_bytes()
    assert 'which is an input' in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- hidden colours


def disk(hidden: str) -> np.ndarray:
    """A white disk with soft borders, and under alpha 0 what programs leave there."""
    rows, columns = np.mgrid[:48, :48]
    distance = np.hypot(rows - 23.5, columns - 23.5)
    alpha = np.rint(np.clip(16.5 - distance, 0, 1) * 255).astype(np.uint8)
    colours = np.full((48, 48, 3), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, colours.shape, dtype=np.uint8)
    colours[alpha == 0] = noise[alpha == 0] if hidden == 'noise' else 0
    return np.dstack([colours, alpha])


@pytest.mark.parametrize('hidden', ['black', 'noise'])
def test_hidden_colours_make_no_rim(here: Path, network: str, hidden: str) -> None:
    Image.fromarray(disk(hidden)).save('disk.png')
    seen = []
    for image in ('disk.png', 'white.png'):
        Image.fromarray(np.dstack([np.full((48, 48, 3), 255, np.uint8), disk(hidden)[..., 3]])).save('white.png')
        assert main([image, '-o', f'of_{Path(image).stem}', '--weights', network]) == 0
        seen.append(np.asarray(Image.open(f'of_{Path(image).stem}/{Path(image).stem}_x2.png')))
    # What is under alpha 0 decides nothing: as if white were everywhere.
    assert np.array_equal(seen[0], seen[1])


def test_jpeg_is_laid_on_white_with_a_word(here: Path, network: str, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(disk('noise')).save('disk.png')
    assert main(['disk.png', '-o', 'out', '--weights', network, '--format', 'jpg']) == 0
    assert Image.open('out/disk_x2.jpg').getpixel((0, 0)) == (255, 255, 255)
    assert 'note: disk.png: jpg files have no alpha: laid on white' in capsys.readouterr().out


# ------------------------------------------------------------------------- refused before the work, kept after it


@pytest.mark.parametrize(('size', 'kind', 'limit'), [((8200, 2), 'webp', 16_383), ((2, 33_000), 'jpg', 65_500)])
def test_what_a_format_cannot_hold_is_refused_before_the_work(
    here: Path,
    network: str,
    size: tuple[int, int],
    kind: str,
    limit: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ways, 'restore', lambda *given, **settings: pytest.fail('it was restored'))
    Image.new('RGB', size).save('wide.png')
    assert main(['wide.png', '-o', 'out', '--weights', network, '--format', kind]) == 1
    assert f'{kind} files have at most {limit} px a side' in capsys.readouterr().err


def test_a_figure_that_fails_does_not_cost_the_image(
    images: Path, network: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise MemoryError

    monkeypatch.setattr(command_module, 'write_comparison', fail)
    command = [str(images / 'a.jpg'), '-o', 'out', '--weights', network, '--figure', '--kernels']
    assert main(command) == 1
    assert names(Path('out')) == ['a_x2.png', 'a_x2_kernels.npz']
    assert 'a_x2_figure.png is missing, though out/a_x2.png is there: memory ran out' in capsys.readouterr().err


def test_figures_without_matplotlib_are_refused_at_once(
    images: Path, network: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_module.importlib.util, 'find_spec', lambda name: None)
    assert main([str(images), '-o', 'out', '--weights', network, '--figure']) == 2
    assert 'figures need the package matplotlib' in capsys.readouterr().err
    assert not Path('out').exists()


def test_a_name_that_fits_is_written_and_one_that_does_not_is_refused_before_the_work(
    images: Path, network: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fits, too_long = 'a' * 240, 'b' * 250
    for name in (fits, too_long):
        shutil.copy(images / 'a.jpg', f'{name}.jpg')
    assert main([f'{fits}.jpg', '-o', 'out', '--weights', network]) == 0
    assert Path(f'out/{fits}_x2.png').is_file()
    monkeypatch.setattr(ways, 'restore', lambda *given, **settings: pytest.fail('it was restored'))
    assert main([f'{too_long}.jpg', '-o', 'out', '--weights', network]) == 1
    assert 'File name too long' in capsys.readouterr().err


# ------------------------------------------------------------------------------------- lines that cannot be printed


@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
@pytest.mark.parametrize('state', ['missing', 'closed', 'full'])
def test_lines_that_cannot_be_printed_are_no_failed_images(
    images: Path, network: str, stream: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = None if state == 'missing' else io.TextIOWrapper(io.FileIO('/dev/full', 'w'))
    if state == 'closed' and gone is not None:
        gone.close()
    monkeypatch.setattr(sys, stream, gone)
    assert main([str(images), '-o', 'out', '--weights', network]) == 0
    assert names(Path('out')) == ['a_x2.png', 'b_x2.png', 'c_x2.png']


@pytest.mark.parametrize(
    ('encoding', 'leaves'),
    [
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (('ascii', False), ('ascii', True), ('utf-8:strict', False))
    ],
)
def test_names_that_cannot_be_printed_and_a_reader_that_leaves_are_no_failures(
    images: Path, network: str, here: Path, encoding: str, leaves: bool
) -> None:
    shutil.copy(images / 'a.jpg', os.fsdecode(b'photographs/latin1_\xe9.jpg'))
    environment = {**os.environ, 'PYTHONIOENCODING': encoding, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', 'manet_basicsr.commands.restore', 'photographs', '-o', 'out', '--weights', network]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True, errors='replace'
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        if leaves:
            process.stdout.close()  # as head does
        said = '' if leaves else process.stdout.read()
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert 'failed' not in errors and 'Traceback' not in errors and 'Exception ignored' not in errors
    assert leaves or said.count(' -> out/') == 4
    assert len(names(here / 'out')) == 4


# ---------------------------------------------------------------------------------------- one bad input is one failure


def test_paths_that_begin_with_a_tilde_are_files(
    images: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(images / 'a.jpg', '~tilde.jpg')
    shutil.copy(network, '~w.pth')
    assert main(['~tilde.jpg', '~absent.jpg', '-o', 'out', '--weights', '~w.pth']) == 1
    assert names(Path('out')) == ['~tilde_x2.png']
    assert '~absent.jpg: No such file or directory' in capsys.readouterr().err
    assert main(['~tilde.jpg', '-o', 'out', '--weights', '~none.pth']) == 2
    assert 'no such file' in capsys.readouterr().err


def test_a_budget_without_a_method_is_refused(images: Path, network: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(images / 'a.jpg'), '-o', 'out', '--weights', network, '--budget', 'short']) == 2
    assert '--budget short: found without --method' in capsys.readouterr().err


def test_an_output_named_like_an_image_is_refused(
    images: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(images / 'a.jpg'), '-o', 'out.PNG', '--weights', network]) == 2
    assert '-o out.PNG: found the name of an image, expected a folder' in capsys.readouterr().err
    assert not Path('out.PNG').exists()


def test_a_folder_that_cannot_be_read_costs_itself(
    images: Path, network: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path('locked').mkdir()
    listed = Path.iterdir

    def iterdir(self: Path) -> object:
        if self.name == 'locked':
            raise PermissionError(13, 'Permission denied', str(self))
        return listed(self)

    monkeypatch.setattr(Path, 'iterdir', iterdir)
    assert main(['locked', str(images / 'a.jpg'), '-o', 'out', '--weights', network]) == 1
    assert names(Path('out')) == ['a_x2.png']
    assert capsys.readouterr().err == '1 failed:\n  locked: Permission denied\n'


def test_one_file_under_two_spellings_is_one_and_a_failed_one_takes_no_name(images: Path, network: str) -> None:
    assert main([str(images / 'a.jpg'), 'photographs/../photographs/a.jpg', '-o', 'out', '--weights', network]) == 0
    Path('bad').mkdir()
    Path('bad/b.png').write_bytes(b'no image')
    assert main(['bad/b.png', str(images / 'b.png'), '-o', 'out', '--weights', network]) == 1
    assert names(Path('out')) == ['a_x2.png', 'b_x2.png']


def test_an_interruption_at_any_moment_is_130(
    images: Path, network: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: object, **settings: object) -> None:
        raise KeyboardInterrupt

    here = ('_check', 'list_inputs', 'read_input', 'write_photograph')
    for module, name in [*((command_module, name) for name in here), (ways, 'network_for'), (ways, 'restore')]:
        with monkeypatch.context() as patched:
            patched.setattr(module, name, interrupt)
            assert main([str(images), '-o', 'out', '--weights', network]) == 130
    assert 'interrupted' in capsys.readouterr().err


def test_a_solver_restores_without_weights(images: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method = ['--method', 'bsrdm[rounds=1,steps=1,walk=1,warmup=1,width=8]', '--scale', '2', '--device', 'cpu']
    assert main([str(images), '-o', str(here / 'out'), *method, '--kernels']) == 0, capsys.readouterr()
    assert names(here / 'out') == sorted(f'{stem}_x2{kind}' for stem in 'abc' for kind in ('.png', '_kernels.npz'))
    assert cv2.imread(str(here / 'out/b_x2.png'), cv2.IMREAD_UNCHANGED).shape == (60, 80)
    assert load_field(here / 'out/a_x2_kernels.npz').field.shape == (1, 441, 30, 40)


def test_a_solver_that_is_none_or_comes_with_weights_is_refused(
    images: Path, here: Path, network: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, 'shipped_weights', lambda: ['blind_x4'])  # none for kernelgan to restore with at x2
    for more, words in (
        (['--method', 'dop'], 'dop'),
        (['--method', 'dip', '--weights', network], '--weights: found together with --method'),
        (['--method', 'dip', '--alpha', 'restore'], '--alpha restore: found together with --method'),
        (['--method', 'dip', '--max-memory', '1G'], '--max-memory: found together with --method'),
        (['--method', 'dip', '--tile', '32'], '--tile: found together with --method'),
        (['--method', 'dip', '--precision', 'bf16'], '--precision: found together with --method'),
        (['--method', 'dip', '--half'], '--precision: found together with --method'),
        (['--method', 'dip', '--scale', '0'], '--scale: found 0, expected a whole number of at least 1'),
        (['--method', 'dip', '--scale', '-2'], '--scale: found -2, expected a whole number of at least 1'),
        (['--method', 'dip', '--scale', '2.5'], '--scale: found 2.5, expected a whole number of at least 1'),
        (['--method', 'dip', '--scale', 'nan'], '--scale: found nan, expected a whole number'),
        (['--method', 'dip', '--scale', 'inf'], '--scale: found inf, expected a whole number'),
        (['--method', 'dip[steps=0]'], 'dip: setting steps: found 0'),
        (['--method', 'dip[kernel=true]'], 'dip[kernel=true]: needs the true kernels, which only an evaluation knows'),
        (['--method', 'kernelgan', '--scale', '3'], 'kernelgan: found scale 3, expected one of 2, 4'),
        (['--method', 'kernelgan', '--scale', '2'], 'for x2, train a blind network'),
    ):
        assert main([str(images), '-o', str(here / 'out'), *more]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count('\n') == 1
    assert not (here / 'out').exists()
    for scale in ('0', '-2', 'nan', 'inf'):
        assert main([str(images), '-o', str(here / 'out'), '--weights', network, '--scale', scale]) == 2
        assert 'expected 1 to 2, the scale of the weights' in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- standard streams


def piped(network: str, *arguments: str, given: bytes = b'') -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, '-m', 'manet_basicsr.commands.restore', *arguments, '--weights', network]
    return subprocess.run(command, input=given, capture_output=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})


def test_an_image_goes_through_the_standard_streams_and_nothing_else(images: Path, network: str, here: Path) -> None:
    done = piped(network, '-', '-o', '-', '--format', 'webp', given=(images / 'c.PNG').read_bytes())
    assert done.returncode == 0 and b'- -> - (80x60' in done.stderr
    assert done.stdout.startswith(b'RIFF') and Image.open(io.BytesIO(done.stdout)).size == (80, 60)
    assert main([str(images / 'c.PNG'), '-o', 'out', '--weights', network, '--format', 'webp']) == 0
    assert done.stdout == Path('out/c_x2.webp').read_bytes()
    assert names(here / 'out') == ['c_x2.webp'] and len(names(here)) == 3, 'and nothing is left elsewhere'


@pytest.mark.parametrize('kind', ['png', 'tif', 'jpg', 'webp'])
def test_each_stream_goes_with_files_at_the_other_end(
    images: Path,
    network: str,
    kind: str,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ['--weights', network, '--format', kind]
    assert main([str(images / 'a.jpg'), '-o', 'out', *command]) == 0
    expected = Path(f'out/a_x2.{kind}').read_bytes()
    capsysbinary.readouterr()
    assert main([str(images / 'a.jpg'), '-o', '-', *command]) == 0
    assert capsysbinary.readouterr().out == expected
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO((images / 'a.jpg').read_bytes())))
    assert main(['-', str(images / 'b.png'), '-o', 'out', *command]) == 0
    assert Path(f'out/stdin_x2.{kind}').read_bytes() == expected
    assert Path(f'out/b_x2.{kind}').is_file()


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['-', '-', '-o', 'out'], '-: found twice among the inputs'),
        (['-', '-o', '-', '--kernels'], '-o -: found together with --kernels'),
        (['-', '-o', '-', '--figure'], '-o -: found together with --figure'),
        (['photographs', '-o', '-'], '-o -: found 3 images, expected one'),
        (['-', '-o', 'out'], '-: found no image on the standard input'),
        (['photographs/a.jpg', '-o', '-'], '-o -: the standard output is a terminal'),
    ],
)
def test_what_streams_cannot_do_is_one_line_and_2(
    images: Path,
    network: str,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, 'stdin', (_Terminal if 'standard input' in words else io.TextIOWrapper)(io.BytesIO()))
    if 'terminal' in words:
        monkeypatch.setattr(sys, 'stdout', _Terminal(io.BytesIO()))
    assert main([*arguments, '--weights', network]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'manet-restore: error: {words}')
    assert not Path('out').exists()


def test_a_bad_image_on_the_standard_input_leaves_the_standard_output_empty(
    network: str, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'no image')))
    for given, words in (('-', b'-: damaged, or no PNG'), ('absent.jpg', b'absent.jpg: No such file')):
        assert main([given, '-o', '-', '--weights', network]) == 1
        out, err = capsysbinary.readouterr()
        assert out == b'' and words in err


@pytest.mark.slow
def test_a_program_that_stops_reading_is_one_line(images: Path, network: str) -> None:
    command = [sys.executable, '-m', 'manet_basicsr.commands.restore', str(images / 'a.jpg'), '-o', '-']
    with subprocess.Popen(
        [*command, '--weights', network, '--format', 'tif'], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert b'-o -: Broken pipe' in errors and b'Traceback' not in errors and b'Exception ignored' not in errors


# ------------------------------------------------------------------------------------------------- several pictures


@pytest.fixture
def animation(images: Path) -> Path:
    """An animation of three frames."""
    frames = [Image.open(images / 'a.jpg').convert('RGB').rotate(angle) for angle in (0, 90, 180)]
    frames[0].save('moves.webp', save_all=True, append_images=frames[1:], duration=[40, 60, 90], lossless=True)
    return Path('moves.webp')


def test_of_an_animation_the_first_picture_is_restored_with_a_word_on_the_others(
    animation: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(animation), '-o', 'out', '--weights', network]) == 0
    said = 'note: moves.webp: of its 3 pictures 2 are left out (--frames all restores all)'
    assert said in capsys.readouterr().out
    with Image.open('out/moves_x2.png') as image:
        assert len(list(ImageSequence.Iterator(image))) == 1 and image.size == (80, 60)


@pytest.mark.parametrize('kind', ['png', 'webp'])
def test_all_frames_are_restored_each_as_an_image_of_its_own(
    animation: Path, images: Path, network: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['-o', 'out', '--weights', network, '--frames', 'all', '--format', kind]
    assert main([str(animation), str(images / 'b.png'), *command]) == 0
    what = {'png': 'animated PNG', 'webp': 'animated WebP'}[kind]
    assert f'moves.webp -> out/moves_x2.{kind} ({what}, 3 pictures of 80x60' in capsys.readouterr().out
    with Image.open(f'out/moves_x2.{kind}') as image:
        assert len(list(ImageSequence.Iterator(image))) == 3
        for number, duration in enumerate((40, 60, 90)):
            image.seek(number)
            image.load()
            assert image.info['duration'] == duration
            with Image.open(animation) as source:
                source.seek(number)
                expected = restore(np.asarray(source.convert('RGB')), network).image
            lost = np.abs(np.asarray(image.convert('RGB')).astype(int) - expected)
            assert lost.max() <= 1 or kind == 'webp'  # which loses something


def test_an_animated_gif_becomes_an_animated_png_with_a_word(
    images: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.open(images / 'a.jpg').convert('P').rotate(angle) for angle in (0, 90)]
    frames[0].save('moves.gif', save_all=True, append_images=frames[1:], duration=[40, 60])
    assert main(['moves.gif', '-o', 'out', '--weights', network, '--frames', 'all']) == 0
    assert 'moves.gif -> out/moves_x2.png (animated PNG, 2 pictures of 80x60' in capsys.readouterr().out
    with Image.open('out/moves_x2.png') as image:
        assert image.format == 'PNG' and len(list(ImageSequence.Iterator(image))) == 2
    help_text = ' '.join(build_parser().format_help().split())
    assert 'png, which becomes an animated PNG, or webp; no GIF, also of a GIF' in help_text


def test_all_pages_are_restored_into_pages(images: Path, network: str, capsys: pytest.CaptureFixture[str]) -> None:
    pages = [Image.open(images / 'a.jpg').crop((0, 0, width, 20)) for width in (30, 24)]
    pages[0].save('scan.tif', save_all=True, append_images=pages[1:])
    command = ['scan.tif', '-o', 'out', '--weights', network, '--frames', 'all', '--format']
    assert main([*command, 'tif']) == 0
    with Image.open('out/scan_x2.tif') as image:
        assert [page.size for page in ImageSequence.Iterator(image)] == [(60, 40), (48, 40)]
    assert 'EXIF' not in capsys.readouterr().out
    exif = Image.Exif()
    exif[271] = 'maker'
    pages[0].save('told.tif', save_all=True, append_images=pages[1:], exif=exif)
    assert main(['told.tif', *command[1:], 'tif']) == 0
    assert 'EXIF data of pages behind the first are not kept' in capsys.readouterr().out
    assert main([*command, 'png']) == 1
    assert 'scan.tif: has 2 pages: found --format png, expected tif' in capsys.readouterr().err


def test_kernels_of_all_pictures_are_refused(animation: Path, network: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(animation), '-o', 'out', '--weights', network, '--frames', 'all', '--kernels']) == 2
    assert '--kernels: found together with --frames all' in capsys.readouterr().err
