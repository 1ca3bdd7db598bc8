"""OpenTelemetry's `gen_ai.*` metrics: histograms of model calls by their names, units and bounds of the conventions.

Each value is put into its bucket when its call ends, by integers, in the ring that all workers share. They tell
what everybody's dashboards of models show; what was promised, and whether it is kept, is the objectives'.
"""
