"""What only PostgreSQL has: types, rights, transactions, the index."""
