"""Objects in Amazon S3, in what is compatible with it, and in Azure Blob Storage."""
