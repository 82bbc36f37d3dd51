"""BasicSR's SRModel with the package's one validation loop and the options that our option files offer."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, imwrite, tensor2img
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn
from torch.utils.data import DataLoader

from manet_basicsr.archs.protocols import BlindNetwork
from manet_basicsr.degradation.pipeline import Degradation
from manet_basicsr.models.batches import Batch, image_name, need, sampling_grid
from manet_basicsr.models.finite import FiniteWatch
from manet_basicsr.models.muon import Muon
from manet_basicsr.models.scoring import check_finite, mean_scores, score_image
from manet_basicsr.models.speed import GRAPH, prepare_for_training
from manet_basicsr.models.step_graph import StepGraph
from manet_basicsr.restoration.tiling import estimate_field_tiled, restore_tiled
from manet_basicsr.utils.errors import ValidationError, last_line
from manet_basicsr.utils.progress import with_progress

# The average looks back over a ninth of the iterations that were done, until ema_decay is reached.
_EMA_WARMUP = 10
_AMP_TYPES = {None: None, False: None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


@MODEL_REGISTRY.register()
class RestorationModel(SRModel):
    """Train and test a network ``lq -> sr`` with pixel losses, as SRModel does.

    Beyond SRModel: ``train.amp``, ``channels_last``, ``compile`` and ``accumulate``; batches that are degraded on the
    device; losses that are synchronised only when they are printed; and a validation that works tile by tile where
    ``val.tile`` is given, is shared between processes, passes everything known about an image to the metrics (see
    :meth:`evaluate`), and skips those that lack what they need, saying so.

    A subclass changes :meth:`predict` and :meth:`compute_losses`.

    Args:
        opt: Resolved options.
    """

    #: Keys of ``train`` that this model reads, beside BasicSR's loop; a subclass adds its own.
    TRAIN_KEYS = frozenset(
        'total_iter warmup_iter ema_decay optim_g scheduler pixel_opt perceptual_opt '
        'amp channels_last compile accumulate on_nonfinite'.split()
    )
    USES_KERNELS = False  # whether it learns by kernels that its training set must have
    #: What of a batch the network is called with.
    NETWORK_INPUTS: tuple[str, ...] = ('lq',)
    #: Arguments of the network that are set in training alone, to get what losses need.
    NETWORK_SWITCHES: tuple[str, ...] = ()
    #: Keys of ``train`` of which at least one must be given.
    LOSS_KEYS: tuple[str, ...] = ('pixel_opt', 'perceptual_opt')
    LOSSES_NEEDED: tuple[tuple[str, ...], ...] = ()  # one of each of these groups; of LOSS_KEYS where there are none
    LEAST_IMAGES = 1  # of a batch, or of each part that ``train.accumulate`` cuts it into

    def __init__(self, opt: dict[str, Any]) -> None:
        self._compiling: bool | str = False
        super().__init__(opt)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move a network to the device; for training in the memory format asked for, compiled in place and wrapped."""
        if self.is_train:
            self._compiling = prepare_for_training(net, self.opt['train'], self.device)
        return super().model_to_device(net)

    def print_network(self, net: nn.Module) -> None:
        """Log a network's name and size; its layers are in the code."""
        network = self.get_bare_model(net)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        get_root_logger().info(f'Network: {type(network).__name__}, with parameters: {parameters:,d}')

    def init_training_settings(self) -> None:
        """Set up losses, EMA, optimizer, schedulers and precision."""
        train_opt = self.opt['train']
        self.net_g.train()
        self.losses: dict[str, Any] = {
            key.removesuffix('_opt'): build_loss(train_opt[key]).to(self.device)
            for key in self.LOSS_KEYS
            if train_opt.get(key)
        }
        if not self.losses:
            raise ValueError(f'train: expected at least one of {", ".join(self.LOSS_KEYS)}')
        amp = train_opt.get('amp')
        if amp not in _AMP_TYPES:
            raise ValueError(f"train.amp: found '{amp}', expected bf16, fp16 or ~")
        self.amp_dtype = _AMP_TYPES[amp]
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=amp == 'fp16')
        self.finite = FiniteWatch(distributed=self.opt['dist'], skip=train_opt.get('on_nonfinite') == 'skip')
        self.ema_decay = train_opt.get('ema_decay', 0)
        if self.ema_decay > 0:
            self._build_ema()
        self.setup_optimizers()
        self.setup_schedulers()
        self.degradation = _degradation_on_device(self.opt)
        self._passes: Callable[[Batch], dict[str, Tensor]] = self._compute_gradients
        if self._compiling == GRAPH:
            self._passes = StepGraph(self._compute_gradients, self.net_g)

    def setup_optimizers(self) -> None:
        """Set up the optimizer of ``train.optim_g`` for the parameters that are not frozen."""
        options = dict(self.opt['train']['optim_g'])
        trained = [parameter for parameter in self.net_g.parameters() if parameter.requires_grad]
        frozen = sum(parameter.numel() for parameter in self.net_g.parameters() if not parameter.requires_grad)
        if frozen:
            get_root_logger().info(f'{frozen:,d} frozen parameters will not be optimized.')
        kind = options.pop('type')
        if kind == Muon.__name__:  # which asks the network for its last layer, and leaves out what is frozen
            self.optimizer_g = Muon(self.get_bare_model(self.net_g), **options)
        else:
            self.optimizer_g = self.get_optimizer(kind, trained, **options)
        self.optimizers.append(self.optimizer_g)

    def _build_ema(self) -> None:
        self.net_g_ema = build_network(self.opt['network_g']).to(self.device)
        load_path = self.opt['path'].get('pretrain_network_g')
        if load_path is not None:
            strict = self.opt['path'].get('strict_load_g', True)
            # On a resume BasicSR asks for 'params'; the EMA weights lie beside them.
            key = self.opt['path'].get('param_key_g', 'params')
            self.load_network(self.net_g_ema, load_path, strict, 'params_ema' if key == 'params' else key)
        else:
            self.model_ema(0)
        self.net_g_ema.eval()

    # ---------------------------------------------------------------------------------------------------- training

    def feed_data(self, data: Batch) -> None:
        """Take a batch: every tensor goes to the device, and crops that are not degraded yet are degraded there."""
        self.batch = {
            key: value.to(self.device, non_blocking=True) if torch.is_tensor(value) else value
            for key, value in data.items()
        }
        if 'gt_uint8' in self.batch:
            self._degrade()
        self.lq = self.batch['lq']

    @torch.no_grad()
    def _degrade(self) -> None:
        """Replace what SVDegradationDataset gives with ``degrade_on: device`` by what it gives otherwise."""
        if self.degradation is None:
            raise ValueError('the batch is not degraded, but no dataset for training has degrade_on: device')
        parts: list[Any] = [self.batch.pop(key) for key in ('gt_uint8', 'levels', 'kernel_parameters', 'noise_seed')]
        crops, levels, parameters, seeds = parts
        gt = crops.float() / 255
        # One stream of noise for the batch: its images are the same whenever it is drawn again.
        generator = torch.Generator(self.device).manual_seed(seeds.values.tolist()[0])
        lq, field = self.degradation.degrade_batch(gt, parameters.tensors(), levels, self.opt['scale'], generator)
        self.batch.update(gt=gt, lq=lq, kernel=field)

    def predict(self, net: nn.Module, batch: Batch) -> Tensor:
        """Apply a network to a batch."""
        return net(batch['lq'])

    def compute_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of a batch's output, by the name they are logged under.

        Raises:
            BadSampleError: The batch lacks what a loss compares with.
        """
        need(batch, 'gt', 'a loss on images')
        losses = {'l_pix': self.losses['pixel'](output, batch['gt'])} if 'pixel' in self.losses else {}
        if 'perceptual' in self.losses:
            perceptual, style = self.losses['perceptual'](output, batch['gt'])
            losses.update({'l_percep': perceptual, 'l_style': style})
        return {name: loss for name, loss in losses.items() if loss is not None}

    def _precision(self) -> AbstractContextManager[Any]:
        if self.amp_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.amp_dtype)

    def _parts(self, batch: Batch) -> list[Batch]:
        """Cut a batch into ``train.accumulate`` parts of equal size."""
        number = self.opt['train'].get('accumulate', 1)
        images = len(batch['lq'])
        size, rest = divmod(images, number)
        if rest:
            raise ValueError(f'train.accumulate: found {number}, expected a divisor of the batch of {images}')
        starts = range(0, images, size)
        return [{key: value[at : at + size] for key, value in batch.items()} for at in starts]

    def optimize_parameters(self, current_iter: int) -> None:
        """Do one step of the optimizer on the batch, without waiting for the device.

        It is waited for with fp16, which looks at its gradients, and with ``on_nonfinite: skip``, which looks at all.
        """
        if self._compiling not in (False, GRAPH):
            torch.compiler.cudagraph_mark_step_begin()  # what a CUDA graph gave in the last step may be overwritten
        self.loss_dict = self._passes(self.batch)
        if not self._watch(current_iter):
            return
        self.grad_scaler.step(self.optimizer_g)
        self.grad_scaler.update()
        if self.ema_decay > 0:
            # Less at first: with 0.999 a seventh of the averaged weights would be their beginning after 2,000 steps.
            self.model_ema(decay=min(self.ema_decay, (1 + current_iter) / (_EMA_WARMUP + current_iter)))

    def _compute_gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Make the gradients of a batch, from nothing and part by part, and return its losses."""
        self.optimizer_g.zero_grad(set_to_none=True)
        parts = self._parts(batch)
        sums: dict[str, Tensor] = OrderedDict()
        for number, part in enumerate(parts, start=1):
            # Only the last part's backward pass needs to exchange gradients between processes.
            wait = number < len(parts) and isinstance(self.net_g, nn.parallel.DistributedDataParallel)
            with self.net_g.no_sync() if wait else nullcontext():
                with self._precision():
                    losses = self.compute_losses(self.predict(self.net_g, part), part)
                    total = torch.stack([loss.float() for loss in losses.values()]).sum() / len(parts)
                self.grad_scaler.scale(total).backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss.detach().float() / len(parts)
        return sums

    def _watch(self, current_iter: int) -> bool:
        """Note whether losses and gradients are finite, and tell whether the step may be taken."""
        # A loss scaler takes infinite gradients for what they are, and no step with them.
        scaled = self.grad_scaler.is_enabled()
        gradients = [p.grad for p in self.net_g.parameters() if p.grad is not None and not scaled]
        paths = [str(path) for path in self.batch.get('lq_path', [])]
        if self.finite.skip:
            return self.finite.permits(current_iter, self.loss_dict, gradients, paths)
        self.finite.record(current_iter, self.loss_dict, gradients, paths)
        return True

    def check_finite(self, current_iter: int) -> None:
        """Look back at the iterations since the last call; this waits for the device, and for other processes.

        Raises:
            NonFiniteError: One of them was not finite, and ``train.on_nonfinite`` is not ``skip``.
        """
        self.finite.look()
        if self.grad_scaler.is_enabled():
            self.finite.check_scale(current_iter, self.grad_scaler.get_scale())

    def get_current_log(self) -> dict[str, float]:
        """Give the losses of the last step as numbers, averaged over the processes; only this waits for the device."""
        return self.reduce_loss_dict(self.loss_dict)

    # -------------------------------------------------------------------------------------------------- validation

    def test(self) -> None:
        """Restore the batch with the EMA network, if there is one."""
        net = getattr(self, 'net_g_ema', None) or self.get_bare_model(self.net_g)
        training = net.training
        net.eval()
        # Every image size would be compiled anew.
        with torch.inference_mode(), torch.compiler.set_stance('force_eager'):
            self.result = self.evaluate(net, self.batch)
        net.train(training)

    def evaluate(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Restore a batch, and estimate its kernel field where the network does that on its way.

        Returns:
            ``sr`` and, where there is one, ``field``.
        """
        if isinstance(net, BlindNetwork):
            field = self.estimate_field(net, batch['lq'])
            return {'sr': self._restore(net.restore, batch['lq'], field), 'field': field}

        def predict(lq: Tensor, field: Tensor | None = None) -> Tensor:
            return self.predict(net, {**batch, 'lq': lq, **({} if field is None else {'kernel': field})})

        return {'sr': self._restore(predict, batch['lq'], batch.get('kernel'))}

    def estimate_field(self, net: Any, lq: Tensor) -> Tensor:
        """Estimate the field of an image by an estimator, or a network that has one, in tiles where asked for."""
        if self.tile is None:
            return net.estimate(lq) if isinstance(net, BlindNetwork) else net(lq)
        return estimate_field_tiled(getattr(net, 'kernel_estimation', net), lq, self.tile)

    def _restore(self, restore: Callable[..., Tensor], lq: Tensor, field: Tensor | None) -> Tensor:
        if self.tile is None:
            return restore(lq) if field is None else restore(lq, field)
        return restore_tiled(restore, lq, field, self.tile)

    @property
    def tile(self) -> int | None:
        """Side in LR pixels of the tiles that images are tested in (``val.tile``); None for whole images."""
        return (self.opt.get('val') or {}).get('tile')

    def known_of_image(self) -> dict[str, Any]:
        """Collect what metrics are called with: ``img``, ``img2``, ``field``, ``field_gt``, ``gt``, ``scale``."""
        known: dict[str, Any] = {'scale': self.opt.get('scale', 1)}
        if 'sr' in self.result:
            known['img'] = tensor2img(self.result['sr'])
        if 'gt' in self.batch:
            known['gt'] = self.batch['gt']
            known['img2'] = tensor2img(self.batch['gt'])
        if 'field' in self.result:
            known['field'] = self.result['field']
        if 'kernel' in self.batch:
            known['field_gt'] = self.batch['kernel']
        return known

    def get_current_visuals(self) -> dict[str, Tensor]:
        """Give the images of the last test, as SRModel does."""
        visuals = {'lq': self.batch['lq'].detach().cpu()}
        if 'sr' in self.result:
            visuals['result'] = self.result['sr'].cpu()
        return visuals | ({'gt': self.batch['gt'].detach().cpu()} if 'gt' in self.batch else {})

    def save_visuals(self, stem: str) -> None:
        """Save what the last test made; ``stem`` is the path without suffix."""
        if 'sr' in self.result:
            imwrite(tensor2img(self.result['sr']), f'{stem}.png')

    def _visual_stem(self, data: Batch, dataset_name: str, current_iter: int | str) -> str:
        name = image_name(data, self.dataset_opt)
        folder = self.opt['path']['visualization']
        if self.opt['is_train']:
            return os.path.join(folder, dataset_name, name, f'{name}_{current_iter}')
        return os.path.join(folder, dataset_name, f'{name}_{self.opt["val"].get("suffix") or self.opt["name"]}')

    def validation(
        self, dataloader: DataLoader[Any], current_iter: int | str, tb_logger: Any, save_img: bool = False
    ) -> None:
        """Test every image of a set, save images and log the mean of each metric; the processes share the images."""
        dataset = dataloader.dataset
        self.dataset_opt: dict[str, Any] = dataset.opt  # type: ignore[attr-defined]
        self.alignment = sampling_grid(dataset)
        dataset_name = self.dataset_opt['name']
        metrics = self.opt['val'].get('metrics') or {}
        rank, world_size = self.opt['rank'], self.opt['world_size']
        mine = range(rank, len(dataset), world_size)  # type: ignore[arg-type]
        loader: DataLoader[Any] = DataLoader(dataset, batch_size=1, sampler=mine)
        shown = self.opt['val'].get('pbar') if rank == 0 else False
        images = with_progress(loader, len(loader), label=f'Test {dataset_name}', shown=shown)
        scores: list[dict[str, float]] = []
        with torch.random.fork_rng(devices=[]):  # a run is the same however often it validates
            for score in self._score_images(images, metrics, current_iter if save_img else None):
                scores.append(score)
                self.between_images()
            for _ in range(len(mine), -(-len(dataset) // world_size)):  # type: ignore[arg-type]
                self.between_images()  # as often as the processes with one image more
        self.__dict__.pop('result', None)  # with fewer images than processes some have none
        if self.opt['dist']:
            gathered: list[Any] = [None] * world_size
            torch.distributed.all_gather_object(gathered, scores)
            scores = [score for part in gathered for score in part]
        self._log_scores(scores, metrics, dataset_name, current_iter, tb_logger)

    def _score_images(
        self, images: Iterable[Batch], metrics: dict[str, Any], saved_as: int | str | None
    ) -> Iterator[dict[str, float]]:
        """Test and score images one by one; save each where an iteration, or a test's name, to save it as is given."""
        dataset_name = self.dataset_opt['name']
        where = f'validation of {dataset_name}'
        try:
            for data in images:
                where = f'validation of {dataset_name}, image {data["lq_path"][0]}'
                self.feed_data(data)
                self.test()
                check_finite(self.result)
                if saved_as is not None:
                    self.save_visuals(self._visual_stem(data, dataset_name, saved_as))
                yield score_image(self.known_of_image(), metrics)
                where = f'validation of {dataset_name}'  # what fails now is the next image, which its reader names
        except Exception as error:
            raise ValidationError(f'{where}: {last_line(error)}') from error

    def between_images(self) -> None:
        """Do what a training puts here, after each image of a validation and equally often in all its processes."""

    # SRModel's two forms of validation; there is one here.
    dist_validation = nondist_validation = validation

    def _log_scores(
        self, scores: list[dict[str, float]], metrics: dict[str, Any], dataset_name: str, current_iter: Any, tb: Any
    ) -> None:
        self.metric_results = mean_scores(scores, metrics, dataset_name)
        if metrics and self.opt['is_train']:
            self._initialize_best_metric_results(dataset_name)
            for name, mean in self.metric_results.items():
                self._update_best_metric_result(dataset_name, name, mean, current_iter)
        if self.metric_results and self.opt['rank'] == 0:
            self._log_validation_metric_values(current_iter, dataset_name, tb)


def _degradation_on_device(opt: dict[str, Any]) -> Degradation | None:
    """Give the degradation of the training set, if batches are to be degraded here."""
    for section, dataset in opt['datasets'].items():
        if section.split('_')[0] == 'train' and dataset.get('degrade_on') == 'device':
            return Degradation.from_options(dataset['degradation'])
    return None
