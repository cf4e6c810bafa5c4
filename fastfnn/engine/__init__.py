"""What makes a model run fast: layers become steps, steps write records, and compiled kernels run these.

`lowering` says which layers become which step, `steps` what a step writes, `program` holds what was written and runs it
over the caller's data. `eager` does the same layer by layer, slowly, for what has no compiled form.
"""
