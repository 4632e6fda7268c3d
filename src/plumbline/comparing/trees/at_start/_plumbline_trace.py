"""The format of a trace: what the Python processes of a rehearsal record, each in a file of lines.

A line is the path of a file that was read, unless it begins with one of the marks below. `sitecustomize.py` writes
traces in processes that may not have Plumbline, so this module imports nothing.
"""

# Variable that names the file into which a process writes its trace. The file's name is that of the process.
TRACE = "PERF_READS"
TESTS = "tests"
# A program that was run.
PROGRAM = "$ "
# A file whose functions record when they are called.
WATCHED = "% "
# A call: number of the stage, process id, function, and the file or package that differs.
CALL = "@ "
# As a function: any of a package in which everything differs.
ANY = "*"
# Files beside the traces: the functions whose calls are recorded, the number of the current stage, and all stages.
DIFFERING, STAGE, STAGES = ".differing", ".stage", ".stages"
NUMBER_BYTES = 4
