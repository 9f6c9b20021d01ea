"""One loaded model: a request and a batch of arrays in, named arrays out.

Read ``request`` with ``long_texts``, then ``tensorflow_runtime`` and what it uses: ``saved_model``,
``freeze``, ``golden``, ``inputs``, ``memory``, ``pooling``. ``isolated`` puts the model into a child process,
``shared`` keeps one model per process, ``batch_size`` measures the fastest batches.
"""
