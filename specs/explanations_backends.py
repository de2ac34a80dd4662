"""P316 explained: what a spec asks of its backend."""

from __future__ import annotations

from patchclamp.specs.explanation import Explanation

BACKENDS = (
    Explanation(
        "P316",
        what="The spec asks its backend for what this backend cannot do: gradients, or weights.",
        why="""It is told before anything is sent. A server runs the code of ordinary keys in a
        sandbox, through which no gradient comes back, and the weights that it holds stay there.""",
        fix="take a backend that can, which the message lists.",
        wrong="""
            captures:
              slope: {site: resid_post, gradient: {of: logit_diff}}
            run: {backend: ndif}
            """,
        right="""
            captures:
              slope: {site: resid_post, gradient: {of: logit_diff}}
            run: {backend: nnsight}
            """,
    ),
)
"""What only some backends can do."""
