"""Our TensorFlow graphs of BERT and ELMo, written for speed on CPUs.

Read ``bert_config`` and ``bert``; then ``elmo_options``, ``elmo`` with its imports, and ``elmo_signatures``.
"""
