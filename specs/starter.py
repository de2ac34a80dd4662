"""The spec that `patchclamp init` writes: a working start, with the alternatives as comments."""

from __future__ import annotations

import re

from patchclamp.registry.errors import UsageError
from patchclamp.specs import grammar
from patchclamp.specs.fields import PATTERNS
from patchclamp.specs.spec import spec_model

MODELINE = "# yaml-language-server: $schema=.patchclamp/schema.json"
"""What editors read; `patchclamp schema --write` puts the schema there."""

_STARTER = """\
{modeline}
# Check me:  patchclamp validate {file}        Run me:  patchclamp run {file}
patchclamp: 1                     # version of this grammar; first and required
name: {name}
description: What does this experiment ask?
seed: 0                           # every random choice derives its own seed from this one

model: bundled:sequences          # or a folder, or a hub id: owner/name@revision

stimuli:                          # what the model reads
  words:
    kind: builtin                 # `patchclamp explain csv` for a file of your own
    set: sequences                # kind csv and jsonl take `path: my_stimuli.csv` instead
    text: "{{prompt}}"              # a template over the set's columns
    labels: [category]            # columns kept as coordinates of every result
    groups: template              # a group never straddles a fold; `none` says independent
    answer: {{correct: " {{next}}", foil: " {{last}}"}}     # with the leading space

captures:                         # what is recorded: `patchclamp list sites`
  resid: {{of: words, site: resid_post, layers: all, positions: last}}

interventions:                    # what is done to the model
  zeroed: {{kind: ablate, value: zero}}

analyses:                         # what is computed: `patchclamp list analyses`
  separates:                      # are patterns more alike within categories than across?
    kind: rsa
    of: resid
    contrast: {{kind: discriminative, column: category}}
    test: {{permute: category, n: 1000}}
  decode:                         # can a linear read-out tell the category?
    kind: probe
    of: resid
    target: category
    controls: [majority, shuffled_labels]
  heads:                          # what does each head contribute to the right answer?
    kind: ablation
    stimuli: words
    with: zeroed
    units: {{site: z, layers: all, heads: all}}
    metric: {{kind: logit_diff}}

run: {{device: auto}}               # how, not what: nothing here changes a number's meaning
"""


def starter(name: str, file: str) -> str:
    """Return the text of a first spec; a name that no spec may have raises `UsageError`."""
    pattern = next(
        item.pattern
        for item in grammar.fields(spec_model())["name"].metadata
        if getattr(item, "pattern", None)
    )
    if not re.search(pattern, name):
        raise UsageError(f"{PATTERNS.get(pattern, 'this is no name for a spec')}; got {name!r}")
    return _STARTER.format(modeline=MODELINE, name=name, file=file)
