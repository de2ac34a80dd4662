"""The metric table: one number per stimulus from the model's next-token distribution."""

from __future__ import annotations

from typing import Literal, NamedTuple

from patchclamp.registry.table import Table


class Metric(NamedTuple):
    """A metric; `function` is `"module:function"` over the answer readings of a pass.

    `needs` says what a stimulus must come with, and `reads` what a pass must read of the logits
    beyond the answers: `entropy`, `text` or `distribution`. `estimand` names the quantity and its
    version, so that a fraction is never compared with percentage points. `ratio` says whether
    zero means *no effect at all*, without which a share of the clean baseline has no meaning.
    None as `function` is one that is not implemented yet: specs that name it are valid and are
    not run.
    """

    name: str
    summary: str
    function: str | None
    units: str
    estimand: str
    needs: Literal["nothing", "answer", "foil"]
    ratio: bool
    reads: tuple[str, ...] = ()
    smooth: bool = False
    """Whether it has a gradient: see `engine.scoring.objective`."""
    whole: bool = True
    """Whether it needs the logits of all tokens, and not those of the answers alone."""


METRICS: Table[Metric] = Table(
    "metric",
    [
        Metric(
            "logit_diff",
            "logit of the correct answer minus logit of the foil, or of the strongest other option",
            "patchclamp.analyses.metrics:logit_diff",
            "logit",
            "logit_diff/1",
            needs="foil",
            ratio=True,
            smooth=True,
            whole=False,
        ),
        Metric(
            "logprob",
            "log-probability of the correct answer",
            "patchclamp.analyses.metrics:logprob",
            "nat",
            "logprob/1",
            needs="answer",
            ratio=False,
            smooth=True,
        ),
        Metric(
            "accuracy",
            "1 where the correct answer is the most probable token of the vocabulary, else 0",
            "patchclamp.analyses.metrics:accuracy",
            "1",
            "accuracy/1",
            needs="answer",
            ratio=True,
        ),
        Metric(
            "forced_choice",
            "1 where the correct answer is more probable than the foil or any other option, else 0",
            "patchclamp.analyses.metrics:forced_choice",
            "1",
            "forced_choice/1",
            needs="foil",
            ratio=True,
            whole=False,
        ),
        Metric(
            "probability",
            "probability of the correct answer",
            "patchclamp.analyses.metrics:probability",
            "1",
            "probability/1",
            needs="answer",
            ratio=True,
            smooth=True,
        ),
        Metric(
            "answer_mass",
            "probability of all spellings of all answers together",
            "patchclamp.analyses.metrics:answer_mass",
            "1",
            "answer_mass/1",
            needs="answer",
            ratio=True,
            smooth=True,
        ),
        Metric(
            "rank",
            "number of tokens that are more probable than the correct answer",
            "patchclamp.analyses.metrics:rank",
            "token",
            "rank/1",
            needs="answer",
            ratio=False,
        ),
        Metric(
            "cross_entropy",
            "mean negative log-probability of each token of the text, given those before it",
            "patchclamp.analyses.metrics:cross_entropy",
            "nat",
            "cross_entropy/1",
            needs="nothing",
            ratio=False,
            reads=("text",),
            smooth=True,
        ),
        Metric(
            "entropy",
            "entropy of the next-token distribution at the answer",
            "patchclamp.analyses.metrics:entropy",
            "nat",
            "entropy/1",
            needs="nothing",
            ratio=False,
            reads=("entropy",),
            smooth=True,
        ),
        Metric(
            "kl",
            "Kullback-Leibler divergence KL(clean || changed) at the answer, over the vocabulary",
            "patchclamp.analyses.metrics:kl",
            "nat",
            "kl/1",
            needs="nothing",
            ratio=False,
            reads=("distribution",),
        ),
        Metric(
            "js",
            "Jensen-Shannon divergence from the clean run at the answer, over the vocabulary",
            "patchclamp.analyses.metrics:js",
            "nat",
            "js/1",
            needs="nothing",
            ratio=False,
            reads=("distribution",),
        ),
    ],
)
