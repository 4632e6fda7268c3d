"""Read about an application in the files of its project. Nothing is imported or run."""
