"""What is inside every machine image: its first process, and the programs that user data calls."""
