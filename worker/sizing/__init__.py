"""How large an installation must be: measured costs, added up; docs/scaling.md tells what of."""
