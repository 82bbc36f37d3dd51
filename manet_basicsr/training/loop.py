"""The iterations of a training, and what each of them does."""

from __future__ import annotations

import datetime
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from basicsr.utils import AvgTimer, MessageLogger, get_root_logger

from manet_basicsr.data.sampling import IterationSampler
from manet_basicsr.models.finite import describe
from manet_basicsr.options.reading import Options
from manet_basicsr.training.checkpoints import prune_checkpoints, saved_iterations
from manet_basicsr.training.interruption import Interrupted, StopAgreement, leaving_between_images
from manet_basicsr.training.processes import bare_networks
from manet_basicsr.training.reports import BadSampleReport, Forecast
from manet_basicsr.training.resuming import network_labels
from manet_basicsr.utils.errors import NonFiniteError, RunStoppedError, ValidationError, last_line

# How often to look, at least, whether the numbers are still finite: each look waits for the device.
_LONGEST_UNSEEN = 100


class TrainingLoop:
    """The iterations that a sampler has left, each of them the steps of :attr:`steps` in their order.

    Args:
        opt: Resolved options.
        model: A model of BasicSR's kind.
        prefetcher: One of BasicSR's prefetchers, with as many batches as the sampler has iterations left.
        sampler: The samples of the run; it knows the first and the last iteration.
        val_loaders: Loaders of the sets to validate.
        tb_logger: Tensorboard's writer, or None.
        agreement: What signals ask for, agreed between the processes.
    """

    def __init__(
        self,
        opt: Options,
        model: Any,
        prefetcher: Any,
        sampler: IterationSampler,
        val_loaders: Iterable[Any],
        tb_logger: Any,
        agreement: StopAgreement,
    ) -> None:
        self.opt = opt
        self.model = model
        self.prefetcher = prefetcher
        self.sampler = sampler
        self.val_loaders = list(val_loaders)
        self.tb_logger = tb_logger
        self.agreement = agreement
        self.current_iter = sampler.start_iter
        self._batch: dict[str, Any] = {}
        self._signal = 0
        self._saved_iter = sampler.start_iter
        self._message_logger = MessageLogger(opt, sampler.start_iter)
        self._message_logger.max_iters += 1  # its estimate counts one too few, and is negative at the end
        self._message_logger.use_tb_logger = False  # it writes nothing for names with 'debug' in them
        self._data_timer, self._iter_timer = AvgTimer(), AvgTimer()
        self._forecast = Forecast(sampler)
        self._bad_samples = BadSampleReport(prefetcher.ori_loader.dataset, opt)
        # Ours do, in all processes alike.
        self._asks_between_images = hasattr(model, 'between_images')
        if self._asks_between_images:
            model.between_images = self.leave_validation_if_asked
        #: Whether a validation is still to be done at this iteration; the state keeps it.
        model.validation_pending = getattr(model, 'validation_pending', False)
        self._validated_iter = -1
        #: What an iteration does, in this order.
        self.steps: tuple[Callable[[], None], ...] = (
            self.take_batch,
            self.set_learning_rate,  # before the step of the optimizer that it is for
            self.train_on_batch,
            self.measure_time,
            self.ask_for_signals,  # before what depends on them: a signal makes a checkpoint due
            self.log_losses,
            self.check_finite,  # before anything is saved: a state with NaN in it is none to go on from
            self.report_bad_samples,
            self.save,  # before the validation: whatever fails in it must not cost what is due to be saved
            self.validate,
            self.save_best_results,  # again: the validation's records belong to this iteration's state
            self.stop_if_asked,  # after everything due is saved
            self.start_timers,
        )

    def run(self) -> None:
        """Do all iterations, save the last networks and validate them where that was not due already.

        Raises:
            RunStoppedError: Numbers are not finite, a checkpoint cannot be written or a validation failed.
            Interrupted: After SIGTERM or SIGINT, once everything is saved; of a validation the rest is left out.
        """
        started = time.time()
        self.make_up_for_validation()
        for current_iter in range(self.sampler.start_iter + 1, self.sampler.total_iter + 1):
            self.current_iter = current_iter
            for step in self.steps:
                step()
        seconds = int(time.time() - started)
        get_root_logger().info(f'End of training. Time consumed: {datetime.timedelta(seconds=seconds)}')
        get_root_logger().info('Save the latest model.')
        self._save(-1, -1)
        if self.opt.get('val') and not self._validation_due and self._validated_iter != self.current_iter:
            self.model.validation_pending = True
            self._validate()
            self._save_state_again()
        self.agreement.finish()

    # ----------------------------------------------------------------------------------------------- when what is due

    def _is_due(self, every: float) -> bool:
        return self.current_iter % every == 0

    @property
    def _is_first(self) -> bool:
        return self.current_iter == self.sampler.start_iter + 1

    @property
    def _is_last(self) -> bool:
        return self.current_iter == self.sampler.total_iter

    @property
    def _print_due(self) -> bool:
        return self._is_due(self.opt['logger']['print_freq'])

    @property
    def _save_due(self) -> bool:
        # The last iteration's, too: a run that ended can be told to go on.
        return self._is_due(self.opt['logger']['save_checkpoint_freq']) or self._is_last or bool(self._signal)

    @property
    def _validation_due(self) -> bool:
        return bool(self.opt.get('val')) and self._is_due(self.opt['val']['val_freq'])

    # ------------------------------------------------------------------------------------------------------ the steps

    def make_up_for_validation(self) -> None:
        """Do the validation that the run before was stopped in, and give its state the records."""
        if self.model.validation_pending and self.opt.get('val'):
            get_root_logger().info(f'The validation of iter {self.current_iter:,d}, which was left out, is done now.')
            self._validate()
            self._save_state_again()

    def take_batch(self) -> None:
        """Wait for the next batch."""
        self._batch = self.prefetcher.next()
        self._data_timer.record()

    def set_learning_rate(self) -> None:
        """Let schedulers and warm-up set the rate of this iteration."""
        self.model.update_learning_rate(self.current_iter, warmup_iter=self.opt['train'].get('warmup_iter', -1))

    def train_on_batch(self) -> None:
        """Do the step of the optimizer."""
        self.model.feed_data(self._batch)
        self.model.optimize_parameters(self.current_iter)

    def measure_time(self) -> None:
        """Note how long the iteration took, for the forecast of the run's end."""
        self._iter_timer.record()
        self._forecast.note(self.current_iter, self._iter_timer.get_current_time())
        if self._is_first:
            self._message_logger.reset_start_time()

    def ask_for_signals(self) -> None:
        """Learn whether the processes have agreed to stop."""
        self._signal = self.agreement.ask()

    def log_losses(self) -> None:
        """Log losses, learning rates and times; this waits for the device."""
        if not self._print_due:
            return
        times = {'time': self._iter_timer.get_avg_time(), 'data_time': self._data_timer.get_avg_time()}
        losses = self.model.get_current_log()
        rates = self.model.get_current_learning_rate()
        epoch = self.sampler.epoch_of(self.current_iter)
        self._message_logger({'epoch': epoch, 'iter': self.current_iter, 'lrs': rates, **times, **losses})
        for name, value in losses.items() if self.tb_logger else ():
            label = f'losses/{name}' if name.startswith('l_') else name
            self.tb_logger.add_scalar(label, value, self.current_iter)

    def check_finite(self) -> None:
        """Stop where numbers are not finite, at the latest before they are saved."""
        due = self._print_due or self._save_due or self._validation_due or self._is_last
        due = due or self._is_due(_LONGEST_UNSEEN)
        try:
            if hasattr(self.model, 'check_finite'):
                if due:
                    self.model.check_finite(self.current_iter)
            else:
                # Models of BasicSR's own wait for the device in each iteration anyway.
                values = self.model.get_current_log()
                if self.opt['rank'] == 0 and not all(map(math.isfinite, values.values())):
                    raise NonFiniteError(describe(self.current_iter, values, self._batch.get('lq_path', [])))
        except NonFiniteError as error:
            raise self._stopped(error) from error

    def report_bad_samples(self) -> None:
        """Name the samples that were replaced since the last report."""
        if self._print_due or self._is_last:
            self._bad_samples.update()

    def save(self) -> None:
        """Save networks and state, where that is due."""
        if self._save_due:
            get_root_logger().info('Saving models and training states.')
            self.model.validation_pending = self._validation_due
            self._save(self.sampler.epoch_of(self.current_iter), self.current_iter)

    def validate(self) -> None:
        """Validate every set, where that is due and nothing asks to leave."""
        if self._validation_due and not self._signal:
            self._validate()

    def leave_validation_if_asked(self) -> None:
        """Leave a validation, where a signal asks for it; it may take hours, and what asks may wait for seconds."""
        self._signal = self.agreement.ask()
        if self._signal:
            raise Interrupted(128 + self._signal)

    def save_best_results(self) -> None:
        """Save the state again, with the records of the validation; its networks have not changed."""
        if self._save_due and self._validation_due and not self._signal:
            self._save_state_again()

    def stop_if_asked(self) -> None:
        """Leave, where a signal asked for it."""
        if self._signal:
            name = signal.Signals(self._signal).name
            get_root_logger().info(f'{name}: saved at iter {self.current_iter:,d}.')
            raise Interrupted(128 + self._signal)

    def start_timers(self) -> None:
        """Begin to measure the next iteration."""
        self._data_timer.start()
        self._iter_timer.start()

    # ------------------------------------------------------------------------------------------- saving and validating

    def _save(self, epoch: int, current_iter: int) -> None:
        """Save networks and state, then remove what ``logger.keep_checkpoints`` counts out."""
        try:
            self.model.save(epoch, current_iter)
        except (OSError, NonFiniteError) as error:  # such as a full disk; what was saved before is untouched
            raise self._stopped(error) from error
        if current_iter == -1:
            return
        self._saved_iter = current_iter
        keep = self.opt['logger'].get('keep_checkpoints')
        if keep and self.opt['rank'] == 0:
            folders = self.opt['path']['training_states'], self.opt['path']['models']
            prune_checkpoints(*folders, network_labels(self.opt), newest=current_iter, keep=keep)

    def _save_state_again(self) -> None:
        """Save the state of this iteration once more, where there is one, with what validating has changed in it."""
        if self.current_iter in saved_iterations(self.opt['path']['training_states']):
            try:
                self.model.save_training_state(self.sampler.epoch_of(self.current_iter), self.current_iter)
            except (OSError, NonFiniteError) as error:
                raise self._stopped(error) from error

    def _validate(self) -> None:
        """Validate every set; whatever fails costs the validation, and none of the iterations."""
        for loader in self.val_loaders:
            try:
                with self._guarded_validation():
                    save_images = self.opt['val'].get('save_img', False)
                    self.model.validation(loader, self.current_iter, self.tb_logger, save_images)
            except BaseException as error:
                self._keep_what_was_trained(error)
                name = loader.dataset.opt['name']
                if isinstance(error, Interrupted):
                    get_root_logger().info(f'The validation of {name} is left out.')
                    self._signal = int(str(error.code)) - 128
                    self.stop_if_asked()
                if isinstance(error, ValidationError):
                    raise self._stopped(error) from error
                if isinstance(error, Exception):  # of a model that does not say where
                    named = ValidationError(f'validation of {name}: {last_line(error)} ({type(error).__name__})')
                    raise self._stopped(named) from error
                raise
        self.model.validation_pending = False
        self._validated_iter = self.current_iter

    @contextmanager
    def _guarded_validation(self) -> Iterator[None]:
        """Do for models that do not what ours do in their validation: look for signals, keep from other processes."""
        with ExitStack() as stack:
            if not self._asks_between_images:
                stack.enter_context(leaving_between_images(self.model, self.agreement))
                stack.enter_context(bare_networks(self.model))
                # A loader draws a seed at each pass: a run is the same however often it validates.
                stack.enter_context(torch.random.fork_rng(devices=[]))
            yield

    def _keep_what_was_trained(self, error: BaseException) -> None:
        """Save the state that a validation ended in, which is made up for where it was stopped.

        One that failed is not: each start would fail in it again, and train nothing.
        """
        self.model.validation_pending = not isinstance(error, Exception)
        if self._saved_iter == self.current_iter:
            self._save_state_again()
        else:
            self._save(self.sampler.epoch_of(self.current_iter), self.current_iter)

    def _stopped(self, error: Exception) -> RunStoppedError:
        """Return the error that ends the run: why, and which state is there to go on from."""
        states = saved_iterations(self.opt['path']['training_states'])
        where = f'the newest state is that of iter {states[0]:,d}' if states else 'no state was saved yet'
        return RunStoppedError(f'{last_line(error)}; {where}', can_go_on=bool(states))
