"""What the files of a project say of its application. Nothing is imported or run."""
