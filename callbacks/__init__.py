"""The catalogue of callbacks; each is loaded when it is first asked for."""

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.callbacks.checkpoint import Checkpoint as Checkpoint
    from lucid_train.callbacks.csv_logger import CSVLogger as CSVLogger
    from lucid_train.callbacks.event_log import EventLog as EventLog
    from lucid_train.callbacks.gradient_monitor import GradientMonitor as GradientMonitor
    from lucid_train.callbacks.lr_scheduler import CosineAnnealingLRCallback as CosineAnnealingLRCallback
    from lucid_train.callbacks.lr_scheduler import ExponentialLRCallback as ExponentialLRCallback
    from lucid_train.callbacks.lr_scheduler import LRSchedulerCallback as LRSchedulerCallback
    from lucid_train.callbacks.lr_scheduler import ParamSchedulerCallback as ParamSchedulerCallback
    from lucid_train.callbacks.lr_scheduler import StepLRCallback as StepLRCallback
    from lucid_train.callbacks.ray_report import RayReport as RayReport
    from lucid_train.callbacks.rich_logger import RichLogger as RichLogger
    from lucid_train.callbacks.spike_guard import SpikeGuard as SpikeGuard
    from lucid_train.callbacks.stopping import EarlyStopping as EarlyStopping
    from lucid_train.callbacks.stopping import TerminateOnNaN as TerminateOnNaN
    from lucid_train.callbacks.stopping import TimeLimit as TimeLimit
    from lucid_train.callbacks.throughput_monitor import ThroughputMonitor as ThroughputMonitor
    from lucid_train.callbacks.trackers.mlflow import MLflowLogger as MLflowLogger
    from lucid_train.callbacks.trackers.tensorboard import TensorBoardLogger as TensorBoardLogger
    from lucid_train.callbacks.trackers.trackio import TrackioLogger as TrackioLogger
    from lucid_train.callbacks.trackers.wandb import WandbLogger as WandbLogger
    from lucid_train.callbacks.weight_average import WeightAverage as WeightAverage
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)
