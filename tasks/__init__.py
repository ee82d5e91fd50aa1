"""The verbs: one module for each capability, each task thin."""
