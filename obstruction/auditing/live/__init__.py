"""The audit of a live model by its conservation laws.

`live_audit` asks `obstruction.conservation` for the laws of a model that can be run, and for the
span of the training inputs. `readout` finds other weights of which only one combination can move,
`systems` decides what balances freeze, `linear` what matrices of linear neurons do, `degenerate`
which starts stay degenerate, and `law_report` has the result, made of `law_findings`.

These modules may import `obstruction.conservation`, `obstruction.topology` and
`obstruction.tools`. They must never read a model without running it.
"""
