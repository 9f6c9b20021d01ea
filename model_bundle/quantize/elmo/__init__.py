"""int8 for the LSTMs of ELMo, which is built again from its weights.

Read ``model`` first, then ``read_elmo``.
"""
