"""Where files are: on this machine, in the storage of a vendor, on a hub, behind a web address."""
