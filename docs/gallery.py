"""What the gallery draws: an example of every public schedule, and the compositions that people use most."""

import inspect
import re
from html import escape

from lucid_train import schedules
from lucid_train.plot import html_page, html_panels, html_text
from lucid_train.schedules import (
    WSD,
    Chain,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Function,
    InverseSqrt,
    InverseTime,
    Linear,
    Multiplicative,
    MultiStep,
    Noam,
    OneCycle,
    OneCycleMomentum,
    Piecewise,
    Polynomial,
    Ramp,
    Rex,
    Schedule,
    Sequence,
    Step,
    WarmRestarts,
)

LENGTH = 200
BASE = 0.1


def inverse(t: int) -> float:
    """A function for `Function`."""
    return 1 / (1 + t / 20)


def damped(t: int) -> float:
    """A factor for `Multiplicative`."""
    return 0.95 if t < 60 else 1.0


EXAMPLES: dict[str, Schedule] = {
    "Chain": Chain([Constant(0.25, total_iters=40), Exponential(0.99)]),
    "Constant": Constant(0.25, total_iters=40),
    "Cosine": Cosine("60%", eta_min=0.01),
    "Cyclic": Cyclic(0.01, 0.1, step_size_up=20, mode="triangular2"),
    "Exponential": Exponential(0.98),
    "Function": Function(inverse),
    "InverseSqrt": InverseSqrt(20),
    "InverseTime": InverseTime(20),
    "Linear": Linear(0.1, total_iters="25%"),
    "MultiStep": MultiStep(["30%", "60%", "90%"], gamma=0.3),
    "Multiplicative": Multiplicative(damped),
    "Noam": Noam(512, warmup_steps=40),
    "OneCycle": OneCycle(0.1),
    "OneCycleMomentum": OneCycleMomentum(OneCycle(0.1)),
    "Piecewise": Piecewise(["25%", "60%"], [0.2, 1.0, 0.1], interpolate="cosine"),
    "Polynomial": Polynomial(power=2.0),
    "Product": Cosine() * Step("25%", gamma=0.5),
    "Ramp": Ramp(1.0, 0.1, "60%", shape="1-sqrt"),
    "Rex": Rex(),
    "Sequence": Sequence([Linear(0.1, total_iters=20), Exponential(0.98)], [None]),
    "Skipped": Cosine().skip(50),
    "Step": Step(30, gamma=0.5),
    "WSD": WSD(warmup="5%", decay="20%", shape="1-sqrt"),
    "WarmRestarts": WarmRestarts(30, T_mult=2),
}

COMPOSITIONS: dict[str, Schedule] = {
    "Linear to 0 after a warm-up, as BERT is fine-tuned on GLUE": Polynomial().warmup("10%", start=0.0),
    "Cosine after a warm-up": Cosine().warmup("5%", start=0.0),
    "Infinite: a rate that can be kept for as long as there is data, and a final anneal": (
        Linear(1.0, 0.4, "35%").then(Constant(0.4)).until("85%").then(Linear(0.4, 0.0)).warmup("5%", start=0.0)
    ),
    "Steps at shares of the run": MultiStep(["80%", "90%"], gamma=0.316).warmup(10, start=0.0),
    "Exponential decay with drops": Exponential(0.99) * Step("25%", gamma=0.5),
}


class Gallery:
    """Schedules in one column, each with what is said of it, its expression and its curve."""

    def __init__(self, shown: dict[str, Schedule], *, described: bool) -> None:
        self.shown, self.described = shown, described

    def _repr_html_(self) -> str:
        parts = []
        for title, schedule in self.shown.items():
            parts.append(html_text(title, "h3"))
            if self.described:
                parts.append(formula(type(schedule)))
            parts.append(f"<p><code>{escape(repr(schedule))}</code></p>")
            parts.append(html_panels([{schedule.words("step"): schedule.curve(LENGTH, BASE)}], "step"))
        return html_page(parts)


def formula(kind: type) -> str:
    """Return what a docstring says before its arguments and its example, in HTML."""
    text = re.split(r"\n\n(?:Args:|>>>)", inspect.getdoc(kind) or "")[0]
    paragraphs = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)).split("\n\n")
    return "".join(f"<p>{each}</p>" for each in paragraphs)


def classes() -> dict[str, Schedule]:
    """Return an example of each public schedule; one without is an error."""
    kinds = {name: getattr(schedules, name) for name in schedules.__all__}
    return {name: EXAMPLES[name] for name, kind in kinds.items() if not inspect.isabstract(kind)}
