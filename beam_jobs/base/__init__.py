"""What every part of the jobs may use: records, options, counter names, the edge of every command."""
