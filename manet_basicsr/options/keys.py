"""The keys of an option file that no signature names: what each may be, and what it does.

Checks, the schema for editors and the reference all read them here. ``kinds`` are JSON types, joined by ``|``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """What a key may be, and what it does.

    Attributes:
        kinds: JSON types such as ``integer|null``, or words in quotation marks, one of which it is.
        words: What it does.
    """

    kinds: str
    words: str


TOP = {
    'name': Key('string', 'name of the run, and of its folder'),
    'model_type': Key('string', 'what is trained or tested'),
    'scale': Key('integer', 'downsampling factor of the data, upsampling factor of the network'),
    'num_gpu': Key('integer|"auto"', 'GPUs; auto: all there are, in a training one a process; else the CPU'),
    'manual_seed': Key('integer|null', 'seed of everything random; ~: drawn'),
    'datasets': Key('object', 'a section for each set: train, val, or test_0, test_1, ...'),
    'network_g': Key('object', 'the network'),
    'path': Key('object|null', 'weights, states and folders'),
    'train': Key('object|null', 'optimizer, schedule, losses'),
    'val': Key('object|null', 'validation and its metrics'),
    'logger': Key('object|null', 'what is logged and saved'),
    'dist_params': Key('object|null', 'of several processes'),
    'find_unused_parameters': Key('boolean', 'as torch has it, for several processes'),
}
PATH = {
    'pretrain_network_g': Key(
        'string|null', 'file of weights to begin with, or the NAME or weights://NAME of those that ship'
    ),
    'param_key_g': Key('string|null', 'state dict to take from it; ~: the file is a bare state dict'),
    'strict_load_g': Key('boolean', 'whether every weight must be in it'),
    'resume_state': Key('string|null', 'file of a training state to go on from'),
    'ignore_resume_networks': Key('array|null', 'networks that are not taken from beside it'),
    'experiments_root': Key('string|null', "folder below which a training's folder is made; ~: experiments"),
    'results_root': Key('string|null', "folder below which a test's folder is made; ~: results"),
}
LOGGER = {
    'print_freq': Key('number', 'iterations from a line of the log to the next'),
    'save_checkpoint_freq': Key('number', 'iterations from a checkpoint to the next; the last one has one in any case'),
    'keep_checkpoints': Key('integer|null', 'how many of the last states and their networks to keep; ~: all'),
    'use_tb_logger': Key('boolean', 'whether TensorBoard files are written'),
    'wandb': Key('object|null', 'project and resume_id of Weights & Biases'),
}
VAL = {
    'val_freq': Key('number', 'iterations from a validation to the next'),
    'save_img': Key('boolean', 'whether images are saved'),
    'pbar': Key('boolean|null', 'progress bar; ~: on a terminal'),
    'suffix': Key('string|null', 'of the names of saved images'),
    'tile': Key('integer|null', 'side in LR px of the tiles that large images are cut into; ~: whole images'),
    'metrics': Key('object|null', 'a section for each metric'),
}
DIST = {
    'backend': Key('string', 'of torch.distributed: nccl, gloo'),
    'port': Key('integer', 'of the first process, under Slurm'),
}
TRAIN = {
    'total_iter': Key('number', 'iterations to train'),
    'warmup_iter': Key('number', 'iterations in which the rate rises; -1: none'),
    'ema_decay': Key('number', 'of the averaged weights, at iteration n at most (1 + n) / (10 + n); 0: none'),
    'optim_g': Key('object', 'the optimizer'),
    'scheduler': Key('object', 'the schedule of its rate'),
    'pixel_opt': Key('object|null', 'loss on the restored image'),
    'perceptual_opt': Key('object|null', "BasicSR's perceptual loss"),
    'code_opt': Key('object|null', 'loss on kernel codes'),
    'kernel_opt': Key('object|null', 'loss on the kernel field'),
    'lr_image_opt': Key('object|null', 'loss on the LR image that the estimated kernels make'),
    'indirect_opt': Key('object|null', 'loss on the image that a frozen generator makes with the estimated kernels'),
    'amp': Key('null|false|"bf16"|"fp16"', 'mixed precision'),
    'channels_last': Key('boolean|"auto"', 'memory format; auto: true on tensor cores and AMX'),
    'compile': Key(
        'boolean|"auto"|"graph"|"reduce-overhead"', 'torch.compile; auto: where it works and gains; graph: a CUDA graph'
    ),
    'accumulate': Key('integer', 'parts that a batch is cut into, to save memory'),
    'on_nonfinite': Key('"stop"|"skip"', 'at NaN or infinity in a loss or the gradients'),
}
LOADER = {
    'name': Key('string', 'of the set, in logs and folders'),
    'type': Key('string', 'the dataset'),
    'phase': Key('string', 'filled in from the name of the section'),
    'scale': Key('integer', 'filled in from the scale of the file'),
    'batch_size_per_gpu': Key('integer', 'samples a batch'),
    'num_worker_per_gpu': Key('integer', 'processes that load; 0: none but the main one'),
    'dataset_enlarge_ratio': Key('integer', 'how often an epoch goes through the images'),
    'prefetch_mode': Key('null|"cpu"|"cuda"', 'whether batches are fetched ahead'),
    'num_prefetch_queue': Key('integer', 'how many of them'),
    'pin_memory': Key('boolean', 'as torch has it'),
    'persistent_workers': Key('boolean', 'as torch has it'),
}
DATASET = {
    'dataroot_gt': Key('string|null', 'HR images, a folder or an LMDB'),
    'dataroot_lq': Key('string|null', 'LR images, instead of a degradation'),
    'io_backend': Key('object', 'type: disk or lmdb, and readahead'),
    'meta_info_file': Key('string|null', 'names the images to use; ~: all'),
    'gt_size': Key('integer', 'side of the HR crops in training'),
    'use_hflip': Key('boolean', 'flip crops'),
    'use_rot': Key('boolean', 'turn crops'),
    'degradation': Key('object', 'how LR images are made'),
    'degrade_on': Key('"loader"|"device"', 'where that is done; device: a batch at a time on the GPU'),
    'on_bad_sample': Key('"raise"|"skip"', 'what a damaged or too small image does'),
    'cache': Key('string|integer|null', 'memory for decoded images, shared by the workers, such as 4G; for training'),
    'kernels': Key('string|null', "manifest of the LR images' kernels"),
}
#: What a validation passes to every metric, beside the arguments in the options.
METRIC_INPUTS = ('img', 'img2', 'field', 'field_gt', 'gt', 'scale', 'lr_images', 'kwargs', 'unused')
#: Those that BasicSR's own models pass.
STOCK_METRIC_INPUTS = ('img', 'img2', 'kwargs', 'unused')
