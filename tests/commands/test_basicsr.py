"""The ``basicsr`` command: exit codes, and one clear line for what is wrong."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from manet_basicsr import test
from manet_basicsr.commands.basicsr import main
from manet_basicsr.options import plugins
from manet_basicsr.training.checkpoints import save_atomically
from manet_basicsr.training.interruption import Interrupted, StopAgreement
from manet_basicsr.utils.errors import BadSampleError
from tests import shortened

TRAINING = shortened.option_file('train', 'MANet_stage1', 4)
TESTING = shortened.option_file('test', 'MANet_stage1', 4)
LESS = 'give a smaller batch_size_per_gpu, train.accumulate or val.tile'


@pytest.fixture(autouse=True)
def without_plugins(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder; no plugins but those that a test declares."""
    monkeypatch.setattr(plugins, 'entry_points', lambda group: [])


@pytest.fixture
def images(photos: Path, tmp_path: Path) -> Path:
    """Two photographs in a folder of the test's own."""
    folder = tmp_path / 'images'
    folder.mkdir()
    for name in ('astronaut.png', 'coffee.png'):
        shutil.copy(photos / name, folder)
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of the shortened estimator."""
    path = tmp_path / 'weights.pth'
    save_atomically({'params': build_network({'type': 'MANet', 'num_feat': 16}).state_dict()}, path)
    return path


def train(images: Path, *more: str, workers: int = 0) -> list[str]:
    entries = shortened.train_entries('MANet_stage1', images, workers=workers)
    return ['train', '-opt', str(TRAINING), '--force_yml', *entries, *more]


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Give the one line of standard error that is neither the log nor a progress bar."""
    captured = capsys.readouterr()
    assert 'Traceback' not in captured.out + captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith('basicsr: ')]
    return line


def test_training_and_testing_end_with_0_and_results_below_the_current_folder(images: Path, here: Path) -> None:
    assert main(train(images)) == 0
    network = here / 'experiments/train_MANet_stage1_x4/models/net_g_latest.pth'
    assert network.is_file()
    entries = shortened.test_entries('MANet_stage1', images, network)
    assert main(['test', '-opt', str(TESTING), '--force_yml', *entries, 'val:save_img=false']) == 0
    assert list((here / 'results/test_MANet_stage1_x4').glob('test_*.log'))


def test_check_says_that_there_is_no_problem_and_makes_nothing(
    images: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['check', *train(images)[1:]]) == 0
    assert capsys.readouterr().out == f'{TRAINING}: no problems found\n'
    assert not (here / 'experiments').exists()


def test_check_lists_every_problem_with_file_and_key(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ['network_g:num_feet=3', 'val:val_freq=0', 'path:pretrain_network_g=nowhere']
    assert main(['check', *train(images, *wrong)[1:]]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"basicsr: error: {TRAINING}: network_g.num_feet: unknown key; did you mean 'num_feat'?",
        f'basicsr: error: {TRAINING}: path.pretrain_network_g: nowhere does not exist',
        f'basicsr: error: {TRAINING}: val.val_freq: found 0, expected a whole number of iterations, at least 1',
    ]


def test_check_of_a_test_file_is_for_testing(images: Path, weights: Path) -> None:
    entries = shortened.test_entries('MANet_stage1', images, weights)
    assert main(['check', '-opt', str(TESTING), '--force_yml', *entries]) == 0


@pytest.mark.parametrize(
    ('entry', 'words'),
    [
        ('network_g:num_feet=3', "network_g.num_feet: unknown key; did you mean 'num_feat'?"),
        ('network_g:type=MANett', "network_g.type: 'MANett' is not registered; did you mean 'MANet'?"),
        ('model_type=KernelModel', "model_type: 'KernelModel' is not registered; did you mean 'KernelL1Model'?"),
        ('datasets:train:dataroot_gt=nowhere', 'datasets.train.dataroot_gt: nowhere does not exist'),
        ('trian:total_iter=3', "there is no section 'trian'; did you mean 'train'?"),
        ('network_g:split=1', 'network_g: split'),
    ],
)
def test_wrong_option_is_one_line_and_2(
    images: Path, capsys: pytest.CaptureFixture[str], entry: str, words: str
) -> None:
    assert main(train(images, entry)) == 2
    assert words in only_line(capsys)


@pytest.mark.parametrize('command', ['train', 'test', 'check'])
def test_missing_option_file_is_one_line_and_2(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, '-opt', 'nowhere.yml']) == 2
    line = only_line(capsys)
    assert line.startswith('basicsr: error: nowhere.yml: cannot read the option file (No such file or directory); ')
    assert line.endswith('basicsr options lists those that ship')


def test_option_file_that_would_run_code_is_one_line_and_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / 'hostile.yml').write_text(f'name: !!python/object/apply:os.mkdir ["{here}/witness"]')
    assert main(['train', '-opt', 'hostile.yml']) == 2
    assert only_line(capsys).startswith('basicsr: error: hostile.yml: line 1: could not determine a constructor')
    assert not (here / 'witness').exists()


@pytest.mark.parametrize(('damage', 'workers'), [('truncated', 0), ('empty', 0), ('text', 0), ('truncated', 1)])
def test_damaged_image_is_one_line_that_names_it_and_1(
    images: Path, capsys: pytest.CaptureFixture[str], damage: str, workers: int
) -> None:
    for path in images.iterdir():
        content = path.read_bytes()
        path.write_bytes({'truncated': content[: len(content) // 2], 'empty': b'', 'text': b'no image'}[damage])
    assert main(train(images, 'val=~', workers=workers)) == 1
    line = only_line(capsys)
    assert line.startswith(f'basicsr: error: {images}/') and '.png: ' in line


def test_weights_that_are_damaged_are_one_line_and_2(
    images: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / 'net.pth').write_bytes(b'no weights')
    assert main(train(images, 'path:pretrain_network_g=net.pth')) == 2
    assert 'net.pth' in only_line(capsys)


def test_weights_of_another_network_are_one_line_and_2(
    images: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = build_network({'type': 'MANet', 'num_feat': 8})
    save_atomically({'params': network.state_dict()}, here / 'net.pth')
    assert main(train(images, 'path:pretrain_network_g=net.pth')) == 2
    assert 'net.pth' in only_line(capsys)


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (OSError(28, 'No space left on device'), 'basicsr: error: [Errno 28] No space left on device'),
        (
            BadSampleError(
                'Caught BadSampleError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
                '  File "x.py", line 1\nmanet_basicsr.utils.errors.BadSampleError: a.png: damaged\n'
            ),
            'basicsr: error: a.png: damaged',
        ),
        (OSError(), 'basicsr: error: OSError'),
        (
            torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.'),
            f'basicsr: error: the GPU ran out of memory; {LESS}',
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
            f'basicsr: error: memory ran out; {LESS}',
        ),
    ],
    ids=['disk', 'worker', 'silent', 'memory of a GPU', 'memory'],
)
def test_failure_on_the_way_is_its_last_line_and_1(
    images: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    line: str,
) -> None:
    def fail(opt: object) -> None:
        raise error

    monkeypatch.setattr(test, 'test_pipeline', fail)
    entries = shortened.test_entries('MANet_stage1', images, weights)
    assert main(['test', '-opt', str(TESTING), '--force_yml', *entries]) == 1
    assert only_line(capsys) == line
    with pytest.raises(type(error)):
        main(['test', '--debug', '-opt', str(TESTING), '--force_yml', *entries])


def test_error_of_ours_keeps_its_traceback(images: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(opt: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(test, 'test_pipeline', fail)
    with pytest.raises(ZeroDivisionError):
        main(['test', '-opt', str(TESTING), '--force_yml', *shortened.test_entries('MANet_stage1', images, weights)])


@pytest.mark.parametrize('signal_number', [0, 15])
def test_what_connects_the_processes_is_closed_at_the_end(
    images: Path, weights: Path, here: Path, monkeypatch: pytest.MonkeyPatch, signal_number: int
) -> None:
    """Left to the interpreter's end, gloo's threads abort a process now and then after its work is done."""
    distributed = torch.distributed
    networks = []

    def work(opt: object) -> None:
        distributed.init_process_group(
            'gloo', store=distributed.FileStore(str(here / 'store'), 1), rank=0, world_size=1
        )
        agreement = StopAgreement([signal_number], distributed=True)
        network = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
        networks.append(weakref.ref(network))
        network.__dict__['itself'] = network  # a circle, as hooks make them
        network(torch.rand(1, 2)).sum().backward()
        agreement.ask()
        if number := agreement.finish():
            raise Interrupted(128 + number)

    monkeypatch.setattr(test, 'test_pipeline', work)
    entries = shortened.test_entries('MANet_stage1', images, weights)
    code = main(['test', '-opt', str(TESTING), '--force_yml', *entries])
    assert code == (128 + signal_number if signal_number else 0)
    assert not distributed.is_initialized()
    assert networks[0]() is None


@pytest.mark.parametrize('arguments', ['', 'tarin', 'train', 'train -opt', 'train -opt x --launcher y'])
def test_wrong_usage_ends_with_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments.split())
    assert raised.value.code == 2
    assert 'usage: basicsr' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--help'], 'basicsr train -opt'),
        *[([name, '--help'], f'basicsr {name} -opt options/') for name in ('train', 'test', 'check')],
    ],
)
def test_help_ends_with_0(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 0
    assert words in capsys.readouterr().out


Declare = Callable[[str], None]


@pytest.fixture
def declare(here: Path, monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declares a module of the current folder as a plugin."""
    monkeypatch.syspath_prepend(str(here))

    def declare(module: str) -> None:
        plugin = importlib.metadata.EntryPoint('theirs', module, 'basicsr.plugins')
        found = {'basicsr.plugins': [plugin]}
        monkeypatch.setattr(plugins, 'entry_points', lambda group: found.get(group, []))

    return declare


def test_other_plugins_are_imported_before_the_options_are_checked(here: Path, images: Path, declare: Declare) -> None:
    (here / 'their_plugin.py').write_text(
        'from basicsr.utils.registry import ARCH_REGISTRY\n'
        'from manet_basicsr.archs import MANet\n'
        '@ARCH_REGISTRY.register()\n'
        'class TheirNetOfATest(MANet):\n'
        '    pass\n'
    )
    arguments = ['check', *train(images, 'network_g:type=TheirNetOfATest')[1:]]
    assert main(arguments) == 2
    declare('their_plugin')
    assert main(arguments) == 0


def test_plugin_that_cannot_be_imported_is_one_line_and_2(
    here: Path, images: Path, declare: Declare, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / 'their_broken_plugin.py').write_text('import nothing_of_this_name\n')
    declare('their_broken_plugin')
    assert main(['check', *train(images)[1:]]) == 2
    line = only_line(capsys)
    assert "plugin 'theirs' (their_broken_plugin) cannot be imported" in line
    assert 'nothing_of_this_name' in line


def test_command_runs_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shortened.ROOT)  # also where the package is not installed
    command = [sys.executable, '-m', 'manet_basicsr', '--help']
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert 'usage: basicsr' in done.stdout
