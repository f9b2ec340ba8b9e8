"""Coverage-guided fuzzing of everything that reads what others have written. See README.md in this folder."""
