"""One test that uses pytest-benchmark's fixture, as edits that make it use `measure`; for `scripts.adopt`."""

import ast
import itertools
import keyword
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef
LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
PASSED_THROUGH = (ast.Compare, ast.Call, ast.Attribute, ast.Subscript, ast.UnaryOp, ast.BinOp)
LEAST_SAMPLES = 7
PEDANTIC = ("target", "args", "kwargs", "setup")
"""Parameters of `pedantic` by position; those behind them differ between its versions."""


class Left(Exception):
    """Why a test is left to a person."""


@dataclass(frozen=True)
class Edit:
    """Bytes of a source and what takes their place."""

    start: int
    end: int
    text: str = ""


class Source:
    """The text of a module, cut and changed by the positions of its nodes."""

    def __init__(self, text: str) -> None:
        """Parses the text; raises SyntaxError or ValueError where it isn't Python."""
        self.tree = ast.parse(text)
        self.bytes = text.encode()
        self.lines = [line.encode() for line in text.split("\n")]
        self._starts = [0, *itertools.accumulate(len(line) + 1 for line in self.lines)]

    def start(self, node: ast.AST) -> int:
        """Where a node begins, behind its decorators."""
        return self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined, no-any-return]

    def end(self, node: ast.AST) -> int:
        """Where a node ends."""
        return self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined, no-any-return]

    def line_end(self, node: ast.AST) -> int:
        """Where the last line of a node ends."""
        return self._starts[node.end_lineno] - 1  # type: ignore[attr-defined]

    def indent(self, node: ast.AST) -> str:
        """The white space that the line of a node begins with."""
        line = self.lines[node.lineno - 1]  # type: ignore[attr-defined]
        return line[: len(line) - len(line.lstrip())].decode()

    def apply(self, edits: Iterable[Edit], start: int = 0, end: int | None = None) -> str:
        """The text between two places, with those edits that lie in there; of one within another, the outer."""
        end = len(self.bytes) if end is None else end
        pieces, at = [], start
        for edit in sorted(set(edits), key=lambda edit: (edit.start, -edit.end)):
            if at <= edit.start and edit.end <= end:
                pieces += [self.bytes[at : edit.start], edit.text.encode()]
                at = edit.end
        return b"".join([*pieces, self.bytes[at:end]]).decode()

    def removal(self, statement: ast.stmt) -> Edit:
        """Takes a statement away with its decorators, the comment right above, and the empty lines on one side."""
        first = min([statement.lineno, *(node.lineno for node in getattr(statement, "decorator_list", []))]) - 1
        while first and self.lines[first - 1].lstrip().startswith(b"#"):
            first -= 1
        last = statement.end_lineno or first
        above, below = self._empty(range(first - 1, -1, -1)), self._empty(range(last, len(self.lines)))
        if above >= below or self.lines[first - 1].endswith(b":"):
            last += below
        else:
            first -= above
        return Edit(self._starts[first], min(self._starts[last], len(self.bytes)))

    def _empty(self, numbers: Iterable[int]) -> int:
        """How many of these lines are empty, up to the first that isn't."""
        return len(list(itertools.takewhile(lambda number: not self.lines[number].strip(), numbers)))


def parameters(function: Function) -> list[ast.arg]:
    """All parameters that have names of their own."""
    arguments = function.args
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def names_in(tree: ast.AST) -> set[str]:
    """Every name that is read, bound or taken as an argument in there."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.add(other or name.partition(".")[0])
    return names


def is_dotted(node: ast.AST | None) -> bool:
    """Whether it is a name, or attributes of one."""
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and is_dotted(node.value))


class Conversion:
    """How one test is converted: `edits`, and in `lost` the options that have no equivalent."""

    def __init__(self, source: Source, test: Function, functions: dict[str, Function], annotate: bool) -> None:
        """Raises Left where a person has to look; `functions` are those of the module."""
        self.source, self.test = source, test
        self.parents = {child: node for node in ast.walk(test) for child in ast.iter_child_nodes(node)}
        self.locals = {node.name: node for node in ast.walk(test) if isinstance(node, Function) and node is not test}
        self.functions = {**functions, **self.locals}
        self.names = names_in(test)
        self.lost: list[str] = []
        self.annotated = False
        self.edits: list[Edit] = []
        self._hoisted: list[str] = []
        self._options: list[str] = []
        self._records = False
        if "measure" in self.names:
            raise Left("has a `measure` of its own")
        use = self._use()
        self.statement = self._statement(use)
        self.indent = source.indent(self.statement)
        self.step = "\t" if "\t" in self.indent else "    "
        self.timed = self._timed(use)
        self.is_async = False
        self.kept_loop = ""
        """Why it still runs a loop itself, if it does."""
        before = list(self.edits)
        try:
            self.is_async = self._begin_async()
        except Left as reason:
            if _is_runner(self.timed):
                raise
            self.edits, self.kept_loop = before, str(reason)
        self._convert(use)
        [parameter] = [each for each in parameters(test) if each.arg == "benchmark"]
        self.annotated = annotate and parameter.annotation is not None
        text = "measure: Measure" if self.annotated else "measure"
        if self._records and "record_property" not in {each.arg for each in parameters(test)}:
            text += ", record_property"
        self._replace(parameter, text)

    # Finding

    def _use(self) -> ast.Call | Function:
        """The one call of the fixture, or the function that it decorates."""
        uses: list[ast.Call | Function] = []
        for node in ast.walk(self.test):
            if isinstance(node, ast.Name) and node.id == "benchmark":
                uses += self._uses_of(node)
        if not uses:
            raise Left("never calls benchmark")
        if len(uses) > 1:
            raise Left(f"calls benchmark {len(uses)} times: one measurement a test")
        return uses[0]

    def _uses_of(self, name: ast.Name) -> list[ast.Call | Function]:
        parent = self.parents[name]
        above = self.parents[parent]
        match parent:
            case ast.Call(func=function) if function is name:
                return [parent]
            case ast.FunctionDef() | ast.AsyncFunctionDef() if parent.decorator_list == [name]:
                return [parent]
            case ast.Attribute(attr="pedantic") if isinstance(above, ast.Call) and above.func is parent:
                return [above]
            case ast.Attribute(attr="group", ctx=ast.Store()) if isinstance(above, ast.Assign):
                self._remove(above)
                self.lost.append("group")
                return []
            case ast.Attribute(attr="extra_info") if isinstance(above, ast.Subscript):
                assignment = self.parents[above]
                if not isinstance(assignment, ast.Assign) or assignment.targets != [above]:
                    raise Left("uses benchmark.extra_info")
                if self._home(assignment) is not self.test:
                    raise Left("sets benchmark.extra_info inside another function")
                self._record(assignment, above.slice)
                return []
            case ast.Attribute(attr=attribute):
                raise Left(f"uses benchmark.{attribute}")
        call = above if isinstance(parent, ast.keyword) else parent
        if isinstance(call, ast.Call):
            raise Left(f"hands benchmark to {ast.unparse(call.func)}()")
        raise Left("uses benchmark as a value")

    def _record(self, assignment: ast.Assign, key: ast.expr) -> None:
        """Tell pytest instead what the benchmark's extra information gets."""
        self._records = True
        source, value = self.source, assignment.value
        self.edits += [
            Edit(source.start(assignment), source.start(key), "record_property("),
            Edit(source.end(key), source.start(value), ", "),
            Edit(source.end(value), source.end(assignment), ")"),
        ]

    def _statement(self, use: ast.Call | Function) -> ast.stmt:
        """The statement that it stands in, where that can be repeated in a loop."""
        node: ast.AST = use
        statement: ast.stmt | None = use if isinstance(use, ast.stmt) else None
        while (node := self.parents[node]) is not self.test:
            if statement is None and isinstance(node, ast.stmt):
                statement = node
            if isinstance(node, LOOPS):
                raise Left("calls benchmark in a loop")
            if isinstance(node, Function | ast.Lambda):
                raise Left(f"calls benchmark inside {getattr(node, 'name', 'a lambda')}")
            if isinstance(node, ast.With) and any("raises" in ast.unparse(item) for item in node.items):
                raise Left("expects the call to raise")
        if not isinstance(statement, Function | ast.Expr | ast.Assign | ast.AnnAssign | ast.Assert | ast.Return):
            raise Left("calls benchmark inside a larger statement")
        line = self.source.lines[statement.lineno - 1]
        rest = self.source.bytes[self.source.end(statement) : self.source.line_end(statement)].strip()
        if line[: statement.col_offset].strip() or (rest and not rest.startswith(b"#")):
            raise Left("calls benchmark beside other code in its line")
        return statement

    def _timed(self, use: ast.Call | Function) -> ast.expr | Function:
        """What is timed: an expression, or the decorated function."""
        if isinstance(use, Function):
            return use
        if isinstance(use.func, ast.Attribute):
            use.keywords += [ast.keyword(name, value) for name, value in zip(PEDANTIC, use.args, strict=False)]
            if len(use.args) > len(PEDANTIC) or any(each.arg is None for each in use.keywords):
                raise Left("calls pedantic with arguments that can't be told apart")
            use.args = [each.value for each in use.keywords if each.arg == "target"]
        if not use.args or isinstance(use.args[0], ast.Starred):
            raise Left("doesn't name the function that it times")
        return use.args[0]

    # Coroutines

    def _begin_async(self) -> bool:
        """Turn what runs a loop into `await`, where the timed code does; returns whether it does."""
        runners = [node for node in ast.walk(self.test) if isinstance(node, ast.Attribute) and _is_runner(node)]
        homes = {node: self._home(node) for node in runners}
        if not any(node is self.timed or homes[node] is not self.test for node in runners):
            return False
        wrappers = {home for home in homes.values() if isinstance(home, Function) and home is not self.test}
        awaiting = {self.test, self.timed, *wrappers}
        for node in runners:
            call = self.parents[node]
            if node is self.timed:
                continue
            if not isinstance(call, ast.Call) or call.func is not node or homes[node] not in awaiting:
                raise Left(f"uses {ast.unparse(node)} in a way that `await` can't replace")
            if len(call.args) != 1 or call.keywords or not isinstance(call.args[0], ast.Call | ast.Name):
                raise Left(f"gives {ast.unparse(node)} more than a coroutine")
            self._await(call, call.args[0])
        for wrapper in wrappers:
            self._insert_async(wrapper)
            for name in ast.walk(self.test) if wrapper is not self.timed else ():
                if _is_read(name, wrapper.name) and name is not self.timed:
                    call = self.parents[name]
                    if not isinstance(call, ast.Call) or call.func is not name or self._home(name) not in awaiting:
                        raise Left(f"uses {wrapper.name}, which runs a loop, for more than to be timed")
                    self._await(call, call)
        for loop in {ast.unparse(node.value) for node in runners}:
            if not loop.startswith("asyncio"):
                self._remove_loop(loop, runners)
        self._insert_async(self.test)
        return True

    def _home(self, node: ast.AST) -> ast.AST:
        """The function or lambda that it stands in."""
        while not isinstance(node := self.parents[node], Function | ast.Lambda | ast.GeneratorExp):
            pass
        return node

    def _insert_async(self, function: Function) -> None:
        if isinstance(function, ast.FunctionDef):
            start = self.source.start(function)
            self.edits.append(Edit(start, start, "async "))

    def _await(self, call: ast.expr, coroutine: ast.expr) -> None:
        whole = ast.Expr | ast.Assign | ast.AnnAssign | ast.Return | ast.Lambda
        opening, closing = ("", "") if isinstance(self.parents[call], whole) else ("(", ")")
        self.edits.append(Edit(self.source.start(call), self.source.start(coroutine), f"{opening}await "))
        self.edits.append(Edit(self.source.end(coroutine), self.source.end(call), closing))

    def _remove_loop(self, loop: str, runners: Sequence[ast.Attribute]) -> None:
        """Take away where a loop is made and closed; the test runs in the suite's own."""
        name = re.escape(loop)
        care = rf"{name} = asyncio\..+|{name}\.close\(\)|asyncio\.(events\.)?set_event_loop\(({name}|None)\)"
        made = False
        known: set[ast.AST] = {node.value for node in runners}
        for node in ast.walk(self.test):
            if isinstance(node, ast.Assign | ast.Expr) and re.fullmatch(care, ast.unparse(node)):
                made = made or isinstance(node, ast.Assign)
                self._remove(node)
                known.update(ast.walk(node))
            elif isinstance(node, ast.Name) and node.id == loop and node not in known:
                raise Left(f"uses the loop `{loop}` for more than to run coroutines")
        if made:
            return
        arguments = parameters(self.test)
        given = [each.arg for each in arguments]
        if loop not in given:
            raise Left(f"runs the loop `{loop}`, which isn't made in the test")
        own = {"self", "benchmark", loop}
        marks = " ".join(ast.unparse(node) for node in self.test.decorator_list if "parametrize" in ast.unparse(node))
        if others := [name for name in given if name not in own and not re.search(rf"\b{name}\b", marks)]:
            raise Left(f"runs the fixture `{loop}`, and {', '.join(others)} may belong to that loop")
        at = given.index(loop)
        if at + 1 < len(given):
            self.edits.append(Edit(self.source.start(arguments[at]), self.source.start(arguments[at + 1])))
        else:
            self.edits.append(Edit(self.source.end(arguments[at - 1]), self.source.end(arguments[at])))

    # Writing

    def _convert(self, use: ast.Call | Function) -> None:
        if isinstance(use, Function):
            self._convert_decorated(use)
            return
        before: list[str] = []
        operations = ""
        if isinstance(use.func, ast.Attribute):
            call, before, operations = self._pedantic(use)
        else:
            call = self._call(use.args[0], use.args[1:], use.keywords)
        statement, rest = self.statement, ""
        value = statement.test if isinstance(statement, ast.Assert) else statement.value  # type: ignore[attr-defined]
        if isinstance(statement, ast.Assign | ast.AnnAssign) and value is use and self._binds_anew(statement):
            call = self.source.apply([], self.source.start(statement), self.source.start(use)) + call
        elif not isinstance(statement, ast.Expr) or value is not use:
            self._check_first(value, use)
            result = self._free("result")
            call = f"{result} = {call}"
            self._replace(use, result)
            rest = f"\n{self.indent}{self._text(statement)}"
        self._replace(statement, self._loop(call, before, operations) + rest)

    def _convert_decorated(self, function: Function) -> None:
        if isinstance(function, ast.AsyncFunctionDef):
            raise Left("times the making of a coroutine, which is never awaited")
        arguments = function.args
        if len(arguments.defaults) < len(arguments.posonlyargs + arguments.args) or None in arguments.kw_defaults:
            raise Left("decorates a function that wants arguments")
        name = function.name
        is_read = any(_is_read(node, name) for node in ast.walk(self.test))
        result = f"{name} = " if is_read else ""
        start = self.source.start(function.decorator_list[0]) - 1
        if (body := self._only_expression(function)) is not None:
            loop = self._loop(result + self._moved(body, 2))
            self.edits.append(Edit(start, self.source.end(function), loop))
            return
        if is_read:  # the decorator has made its name that of the result
            name = self._free(f"run_{name}")
            at = self.source.start(function) + len("def ")
            self.edits.append(Edit(at, at + len(function.name.encode()), name))
        self.edits.append(Edit(start, self.source.start(function)))
        call = f"{result}{'await ' if self._is_awaited(function) else ''}{name}()"
        end = self.source.line_end(function)
        self.edits.append(Edit(end, end, f"\n\n{self.indent}{self._loop(call)}"))

    def _call(self, function: ast.expr, args: Sequence[ast.expr], keywords: Sequence[ast.keyword]) -> str:
        """The call that is timed; what its arguments take to make stays outside."""
        if _is_runner(function):
            if len(args) != 1 or keywords or not isinstance(args[0], ast.Call):
                raise Left("runs a coroutine that isn't made in the call")
            return "await " + self._moved(args[0], 2)
        if isinstance(function, ast.Lambda) and not args and not keywords and not names_in(function.args):
            return self._moved(function.body, 2)
        if isinstance(function, ast.Call) and ast.unparse(function.func) in ("partial", "functools.partial"):
            both = [each.arg for each in (*function.keywords, *keywords)]
            if function.args and len(set(both)) == len(both):
                all_keywords = [*function.keywords, *keywords]
                return self._call(function.args[0], [*function.args[1:], *args], all_keywords)
        known = self.functions.get(function.id) if isinstance(function, ast.Name) else None
        if isinstance(known, ast.AsyncFunctionDef):
            raise Left("times the making of a coroutine, which is never awaited")
        if known is not None and self._is_awaited(known):
            uses = sum(_is_read(node, known.name) for node in ast.walk(self.test))
            body = self._only_expression(known)
            if body is not None and uses == 1 and not args and not keywords:
                self._remove(known)
                return self._moved(body, 2)
        is_method = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
        name = self._text(function) if is_method else self._argument(function, "function")
        texts = [self._argument(each, "argument") for each in args]
        texts += [
            (f"{each.arg}=" if each.arg else "**") + self._argument(each.value, each.arg or "kwargs")
            for each in keywords
        ]
        return f"{'await ' if known is not None and self._is_awaited(known) else ''}{name}({', '.join(texts)})"

    def _pedantic(self, use: ast.Call) -> tuple[str, list[str], str]:
        """The call, what goes before it in each round, and the operations of a round."""
        given = {each.arg: each.value for each in use.keywords if not _is_none(each.value)}
        one = ast.Constant(1)
        rounds, iterations = given.get("rounds", one), given.get("iterations", one)
        setup = given.get("setup")
        if setup is None and ast.unparse(rounds) == ast.unparse(iterations) == "1":
            raise Left("is called once (rounds=1): measure() calls it a dozen times and more")
        if "teardown" in given:
            raise Left("has a teardown: code behind `with timer`")
        for name, option, least in (("rounds", "samples", LEAST_SAMPLES), ("warmup_rounds", "warmup", 0)):
            match given.get(name):
                case ast.Constant(value=int(number)) if number >= least:
                    self._options.append(f"{option}={number}")
                case ast.expr() as value if ast.unparse(value) != "1":
                    self.lost.append(f"{name}={ast.unparse(value)}")
        args, keywords = _elements(given.get("args")), _items(given.get("kwargs"))
        before: list[str] = []
        if setup is not None:
            text, maker = self._setup(setup)
            if maker and not args and not keywords:
                made, named = self._free("args"), self._free("kwargs")
                args, keywords = [ast.Starred(ast.Name(made))], [ast.keyword(None, ast.Name(named))]
                text = f"{made}, {named} = {maker}"
            before = [text]
        call = self._call(use.args[0], args, keywords)
        return call, before, "" if ast.unparse(iterations) == "1" else self._argument(iterations, "operations")

    def _setup(self, setup: ast.expr) -> tuple[str, str]:
        """What `setup` does in each round, and how arguments come from it, if they may."""
        returned: list[ast.expr | None] = [setup]
        function = self.functions.get(setup.id) if isinstance(setup, ast.Name) else None
        if function is not None:
            returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
            if not isinstance(function.body[-1], ast.Return):
                returned.append(None)
        match setup:
            case ast.Lambda(body=ast.Call() | ast.Tuple() as body) if not names_in(setup.args):
                returned = [body]
                text = self._moved(body, 1)
            case _:
                text = f"{self._argument(setup, 'setup')}()"
        if all(value is None or _is_none(value) for value in returned):
            return text, ""
        if all(isinstance(value, ast.Tuple) for value in returned):
            return text, text
        return text, f"{text} or ((), {{}})"

    def _loop(self, call: str, before: Sequence[str] = (), operations: str = "") -> str:
        timer = self._free("timer")
        options = ", ".join([*([f"operations={operations}"] if operations else []), *self._options])
        lines = [*before, f"with {timer}:", self.step + call]
        if operations:
            again = call.replace("\n", f"\n{self.step}")
            lines[-1:] = [f"{self.step}for {self._free('_')} in range({operations}):", self.step * 2 + again]
        loop = f"{'async ' if self.is_async else ''}for {timer} in measure({options}):"
        return ("\n" + self.indent).join([*self._hoisted, loop, *(self.step + line for line in lines)])

    def _argument(self, node: ast.expr, name: str) -> str:
        """An argument as it stands, or the name of a variable that is set before the loop."""
        if isinstance(node, ast.Starred):
            return f"*{self._argument(node.value, 'arguments')}"
        if isinstance(node, ast.Name):
            return node.id
        if _is_constant(node):
            return self._moved(node, 2)
        if isinstance(node, ast.Attribute):
            name = node.attr
        name = self._free(name)
        self._hoisted.append(f"{name} = {self._moved(node, 0)}")
        return name

    def _free(self, name: str) -> str:
        """That name, or one like it, which the test doesn't use."""
        names = [name, *(f"{name}_{number}" for number in range(2, 100))]
        free = next(each for each in names if each not in self.names and not keyword.iskeyword(each))
        self.names.add(free)
        return free

    def _moved(self, node: ast.expr, steps: int) -> str:
        """The text of an expression, to stand by so many steps deeper than the statement."""
        text = self._text(node)
        if "\n" not in text:
            return text
        try:
            ast.parse(text, mode="eval")
        except SyntaxError:
            text = f"({text})"
        strings = (each for each in ast.walk(node) if isinstance(each, ast.JoinedStr | ast.Constant))
        if any(each.lineno != each.end_lineno for each in strings):
            return text
        first, *lines = text.split("\n")
        closing = re.match(r"(\s*)[)\]}]", lines[-1])  # stands below the beginning
        old, new = closing[1] if closing else self.source.indent(node), self.indent + self.step * steps
        return "\n".join([first, *(new + line.removeprefix(old) for line in lines)])

    def _only_expression(self, function: Function) -> ast.expr | None:
        """What a function without arguments returns, where it does nothing else and has no comments."""
        text = self.source.apply([], self.source.start(function), self.source.end(function))
        match function.body:
            case [ast.Expr(value=value) | ast.Return(value=ast.expr() as value)]:
                return None if "#" in text or names_in(function.args) else value
        return None

    def _is_awaited(self, function: Function) -> bool:
        start = self.source.start(function)
        return Edit(start, start, "async ") in self.edits

    def _binds_anew(self, statement: ast.Assign | ast.AnnAssign) -> bool:
        """Whether it binds names that mean nothing before, so that no round can read what the last one has bound."""
        given = [each.arg for each in parameters(self.test)]
        stored = [
            node for node in ast.walk(self.test) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
        bound = [*given, *self.locals, *(node.id for node in stored)]
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        leaves = [leaf for target in targets for leaf in (target.elts if isinstance(target, ast.Tuple) else [target])]
        return all(isinstance(leaf, ast.Name) and bound.count(leaf.id) == 1 for leaf in leaves)

    def _check_first(self, node: ast.AST, call: ast.expr) -> None:
        """Raises Left unless the call is the first thing that its statement does."""
        while node is not call:
            inner = [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr) and not is_dotted(each)]
            if not isinstance(node, PASSED_THROUGH) or not inner:
                raise Left("calls benchmark inside a larger statement")
            node = inner[0]

    def _text(self, node: ast.AST) -> str:
        return self.source.apply(self.edits, self.source.start(node), self.source.end(node))

    def _replace(self, node: ast.AST, text: str) -> None:
        self.edits.append(Edit(self.source.start(node), self.source.end(node), text))

    def _remove(self, statement: ast.stmt) -> None:
        parent = self.parents[statement]
        [block] = [each for _name, each in ast.iter_fields(parent) if isinstance(each, list) and statement in each]
        if all(each is statement or self.source.removal(each) in self.edits for each in block):
            self._replace(statement, "pass")
        else:
            self.edits.append(self.source.removal(statement))


def _is_runner(node: ast.AST) -> bool:
    """Whether it is `asyncio.run` or a loop's `run_until_complete`."""
    return isinstance(node, ast.Attribute) and (node.attr == "run_until_complete" or ast.unparse(node) == "asyncio.run")


def _is_read(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


def _is_constant(node: ast.expr) -> bool:
    """Whether it is the same object each time, and can't be changed."""
    try:
        hash(ast.literal_eval(node))
    except (ValueError, TypeError):
        return False
    return True


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _elements(node: ast.expr | None) -> Sequence[ast.expr]:
    """The arguments that `args=` stands for."""
    if node is None:
        return []
    return node.elts if isinstance(node, ast.Tuple | ast.List) else [ast.Starred(node)]


def _items(node: ast.expr | None) -> Sequence[ast.keyword]:
    """The arguments that `kwargs=` stands for."""
    if isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        if all(isinstance(key, str) and key.isidentifier() for key in keys):
            return [ast.keyword(str(key), value) for key, value in zip(keys, node.values, strict=True)]
    return [] if node is None else [ast.keyword(None, node)]
