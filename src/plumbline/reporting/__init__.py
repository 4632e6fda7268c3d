"""Results as text: pure functions of `Results`; nothing is measured or judged here."""
