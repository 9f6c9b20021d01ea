"""Files and text of others: opened, parsed and shown in one place each, which looks at them first."""
