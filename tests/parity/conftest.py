"""Everything here needs PyTorch, JAX, pandas, a framework or a tracker; where it is missing, its tests are left out."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
if not find_spec("jax") or not find_spec("optax"):
    collect_ignore_glob += ["test_jax_parity.py"]

if not all(map(find_spec, ("keras", "pytorch_lightning", "lightning_fabric", "accelerate", "transformers"))):
    collect_ignore_glob += ["test_elsewhere_parity.py"]
if not all(map(find_spec, ("ignite", "keras", "pytorch_lightning", "transformers", "tensorboard"))):
    collect_ignore_glob += ["test_coming_from_parity.py"]
if not all(map(find_spec, ("jax", "keras", "optax", "timm", "transformers"))):
    collect_ignore_glob += ["test_schedules_of_others_parity.py"]

if not find_spec("pandas"):
    collect_ignore_glob += ["test_history_parity.py"]

if not find_spec("tensorboardX") or not find_spec("tensorboard"):
    collect_ignore_glob += ["test_tensorboard_parity.py", "test_export_parity.py"]

if not find_spec("tensorboardX"):
    collect_ignore_glob += ["test_cookbook_parity.py"]

if not find_spec("mlflow") or not find_spec("sqlalchemy"):
    collect_ignore_glob += ["test_mlflow_parity.py", "test_export_parity.py"]

if not find_spec("timm"):
    collect_ignore_glob += ["test_timm_parity.py"]

for module, test in {
    "psutil": "device_monitor",
    "pynvml": "device_monitor",
    "apprise": "notify",
    "optuna": "optuna_pruning",
    "schedulefree": "schedule_free",
}.items():
    if not find_spec(module):
        collect_ignore_glob += [f"test_{test}_parity.py"]

if not find_spec("trackio"):
    collect_ignore_glob += ["test_trackio_parity.py"]

if not find_spec("wandb"):
    collect_ignore_glob += ["test_wandb_parity.py"]

if not all(map(find_spec, ("tensorboardX", "mlflow", "sqlalchemy", "trackio", "wandb"))):
    collect_ignore_glob += ["test_tracker_threads_parity.py"]

if find_spec("torch"):
    import torch

    torch.set_num_threads(1)  # threads cost more than they gain on tensors of a few numbers
