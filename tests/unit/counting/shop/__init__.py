"""Code of a user, for the tests of call sites. A comment `# NAME` marks a line that a test expects."""
