"""Write what is made from this folder: `python -m k8s.components.monitoring.source`."""

from pathlib import Path

from k8s.components.monitoring.source import files

for name, text in files().items():
    (Path(__file__).parents[1] / name).write_text(text)
