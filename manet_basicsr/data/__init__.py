"""Datasets, and what prepares their files."""

from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset

__all__ = ['SVDegradationDataset']
