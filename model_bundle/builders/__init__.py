"""Builds model bundles from models in other formats.

Read ``assemble`` first: every builder ends there. Then one builder: ``bert``, ``elmo``, ``tfhub`` (TensorFlow
Hub) or ``keras``, each from its ``build``. ``graphs`` (our TensorFlow graphs), ``weights`` (readers of stored
weights) and the files of this folder serve all builders and import none of them.
"""
