"""What watches a run. Callbacks know protocols, never a family or a data set.

Every run has ``checkpoint``, ``samples``, ``progress`` and ``stop`` (options ``--checkpoint.every`` and so on); further
ones, those of ``evaluators/`` for example, are named under ``trainer.callbacks`` in a config. Only `boundary` decides
what happens at the end of a step, and in which order.
"""
