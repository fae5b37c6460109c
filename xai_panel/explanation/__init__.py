"""Explanations: one `xarray.Dataset` per question, its accessor `.xai`, the store of maps, exports."""

from xai_panel.explanation import accessor as accessor  # registers `.xai` on datasets
