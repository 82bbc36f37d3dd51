"""Pictures of kernels, figures of results and curves of runs."""
