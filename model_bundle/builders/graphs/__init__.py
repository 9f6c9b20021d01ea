"""Our TensorFlow graphs of BERT, encoders of its kind and ELMo, written for speed on CPUs.

Read ``bert_config`` and ``bert``, and ``encoders``, which add to it; then ``elmo_options``, ``elmo`` with its
imports, and ``elmo_signatures``.
"""
