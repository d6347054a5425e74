"""What watches a run. Callbacks know ``protocols.py``, never a family.

Every run has ``checkpoint``, ``samples``, ``progress`` and ``stop`` (options ``--checkpoint.every`` and so on); further
ones are named under ``trainer.callbacks`` in a config.
"""
