"""The architectures that are built, one file each. Read ``family``, ``bert``, then ``registry``."""
