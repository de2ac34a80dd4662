"""What metrics need of the logits: torch only, run where the model runs.

Numbers are per stimulus and in float64; `engine.answers` says what is read where.
"""

from __future__ import annotations

import math
from typing import Any

import torch


def read_answers(step: dict[str, Any], logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """Reduce logits (row, position, token) to what metrics need, mostly one number a stimulus.

    A step reads the logits at its places, `rows` and `positions` (place,), and says in `first`
    (stimulus,) at which of them the answer is due. The rest is for `reduce_answers` and, as
    `text` (row, position), the token that follows each token, -1 for none, or None. Where
    `columns` (column,) is not None, only the logits of these tokens are read, and the step counts
    tokens by column; what unembeds may then have given no others.
    """
    device = logits.device
    found = reduce_answers(step, at_places(step, logits))
    if step["text"] is not None:
        loss = cross_entropy(logits, step["text"].to(device))
        found["cross_entropy"] = loss[step["rows"].to(device)[step["first"].to(device)]]
    return {name: value.detach().to("cpu") for name, value in found.items()}


def at_places(step: dict[str, Any], logits: torch.Tensor) -> torch.Tensor:
    """Return the logits (place, token) that a step reads, of its `columns` alone if it has any."""
    device, columns = logits.device, step["columns"]
    if columns is not None and logits.shape[-1] != len(columns):
        logits = logits[..., columns.to(device)]
    places: torch.Tensor = logits[step["rows"].to(device), step["positions"].to(device)]
    return places


def reduce_answers(step: dict[str, Any], places: torch.Tensor) -> dict[str, torch.Tensor]:
    """Reduce logits (place, token) to what metrics need; gradients pass through.

    Of the next token, (stimulus,): `logsumexp`, the largest logit as `logit_max` and which token it
    is of as `argmax`, and by `reads` `entropy` in nats and
    `distribution`, its logits (stimulus, token). From another one's, `clean`, the divergences
    `kl` = KL(clean || this) and `js`, in nats. Of the answers: see `score`.
    """
    final = wide(places)
    step = {k: v.to(final.device) if torch.is_tensor(v) else v for k, v in step.items()}
    if step["columns"] is not None:
        return answers_of(step, spellings(step, final, None))
    total = final.logsumexp(1)
    first = step["first"]
    here = final if len(first) == len(final) else final[first]
    largest, argmax = here.max(1)
    found = {"logsumexp": total[first], "logit_max": largest, "argmax": argmax}
    if "entropy" in step["reads"]:
        found["entropy"] = torch.special.entr(here.softmax(1)).sum(1)
    if "distribution" in step["reads"]:
        found["distribution"] = places[first.to(places.device)]
    if step["clean"] is not None:
        clean, logs = wide(step["clean"]).log_softmax(1), here.log_softmax(1)
        middle = torch.logaddexp(clean, logs) - math.log(2)
        found["kl"] = divergence(clean, logs)
        found["js"] = (divergence(clean, middle) + divergence(logs, middle)) / 2
    if step["tokens"] is not None:
        found.update(score(step, final, total))
    return found


def objective(step: dict[str, Any], logits: torch.Tensor) -> torch.Tensor:
    """Return a metric of each stimulus, (stimulus,), through which gradients pass.

    `of` is a smooth metric; cross-entropy is the sum over the text's tokens for `at: each`,
    their mean otherwise. The rest of the step is as for `read_answers`.
    """
    if step["of"] == "cross_entropy":
        rows = step["rows"][step["first"]].to(logits.device)
        text = step["text"].to(logits.device)
        loss = cross_entropy(logits[rows], text[rows])
        return loss * (text[rows] >= 0).sum(1) if step["at"] == "each" else loss
    found = reduce_answers(step, at_places(step, logits))
    match step["of"]:
        case "logit_diff":
            return found["logit_correct"] - found["logit_foil"]
        case "entropy":
            return found["entropy"]
        case "answer_mass":
            return (found["logit_answers"] - found["logsumexp"]).exp()
    logprob = found["logit_correct"] - found["logsumexp"]
    return logprob if step["of"] == "logprob" else logprob.exp()


def score(
    step: dict[str, Any], final: torch.Tensor, total: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Score the answers of each stimulus from logits (place, token) and their logsumexp (place,).

    Returns what `answers_of` does and, as `rank`, how many tokens are more probable than the right
    answer.
    """
    tokens, places = step["tokens"], step["places"]
    spelled = spellings(step, final, total)
    found = answers_of(step, spelled)
    own = step["parts"][None] == step["correct"][:, None]
    if tokens.shape[-1] == 1:
        # The answer's own spellings are part of it, and not what it competes with.
        correct = found["logit_correct"][:, None]
        larger = (final[places[:, 0, 0]] > correct).sum(1)
        found["rank"] = larger - (own & (spelled > correct)).sum(1)
    else:
        logits = final[places, tokens.clamp(min=0)]
        ranks = torch.where(tokens >= 0, ranks_of(final, places, logits), 0).amax(-1)
        found["rank"] = ranks.masked_fill(~own, final.shape[1]).amin(1)
    return found


def spellings(
    step: dict[str, Any], final: torch.Tensor, total: torch.Tensor | None
) -> torch.Tensor:
    """Return the logit of each spelling of a stimulus's answers, (stimulus, spelling).

    `tokens` and `places` (stimulus, spelling, length) say what is read where, -1 for nothing. A
    spelling's logit is that of its first token, and the log-probabilities of the further ones,
    each given those before it: less `logsumexp` it is the log-probability of the whole. None as
    `total` says that no spelling has a further token.
    """
    tokens, places = step["tokens"], step["places"]
    logits = final[places, tokens.clamp(min=0)]
    if total is not None:
        logits = torch.cat([logits[..., :1], logits[..., 1:] - total[places[..., 1:]]], -1)
    return torch.where(tokens >= 0, logits, 0.0).sum(-1)


def answers_of(step: dict[str, Any], spelled: torch.Tensor) -> dict[str, torch.Tensor]:
    """Put the logits of spellings (stimulus, spelling) together to those of answers.

    `parts` (spelling,) says which answer a spelling is of, `combine` how these become one, and
    `correct` (stimulus,) which answer is right. Returns `logit_correct`, `logit_foil` (the largest
    of the other answers), `logit_answers` (all spellings of all answers together),
    `logit_options` (stimulus, answer) if `options`, and `logit_variants` (stimulus, variant), all
    answers together in each of several `variants`.
    """
    members = [spelled[:, step["parts"] == part] for part in range(int(step["parts"].max()) + 1)]
    match step["combine"]:
        case "logsumexp":
            answers = torch.stack([member.logsumexp(1) for member in members], 1)
        case "max":
            answers = torch.stack([member.amax(1) for member in members], 1)
        case _:
            answers = torch.stack([member[:, 0] for member in members], 1)
    right = step["correct"][:, None]
    correct = answers.gather(1, right)[:, 0]
    found = {"logit_correct": correct, "logit_answers": spelled.logsumexp(1)}
    if len(members) > 1:
        found["logit_foil"] = answers.scatter(1, right, -math.inf).amax(1)
    if step["options"]:
        found["logit_options"] = answers
    if step["variants"] > 1:
        found["logit_variants"] = spelled.view(len(spelled), -1, step["variants"]).logsumexp(1)
    return found


def ranks_of(final: torch.Tensor, places: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Count the tokens at each place with a larger logit: (stimulus, spelling, length)."""
    ranks = torch.zeros_like(places)
    for spelling in range(places.shape[1]):
        for step in range(places.shape[2]):
            here = final[places[:, spelling, step]]
            ranks[:, spelling, step] = (here > logits[:, spelling, step, None]).sum(1)
    return ranks


def cross_entropy(logits: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Return the mean of -log p(next token) over the tokens that have one, in nats: (row,).

    `logits` is (row, position, token), `following` (row, position), -1 for none. A row without
    any gives NaN. Row by row, since a whole batch in float64 would be large.
    """
    losses = []
    for row, targets in zip(logits, following, strict=True):
        there = targets >= 0
        final = wide(row[there])
        said = final.gather(1, targets[there].to(final.device)[:, None])[:, 0]
        losses.append((final.logsumexp(1) - said).mean())
    return torch.stack(losses)


def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) over the last dim, in nats, from log-probabilities; 0 log 0 is 0."""
    return torch.where(p > -math.inf, p.exp() * (p - q), 0.0).sum(-1)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in float64, on the CPU where its device has none."""
    return tensor.to("cpu" if tensor.device.type == "mps" else tensor.device, torch.float64)
