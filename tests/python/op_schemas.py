"""Writes src/model/ops/schema.txt: how many inputs each operator takes and of which element types, as the onnx package (and onnxruntime, for its
own operators that we run) defines them.

usage: op_schemas.py > schema.txt

    set N TYPE...                 a set of element types
    DOMAIN:NAME V:LEAST..MOST ... / INPUT ...

A line for each operator: since version V it takes so many inputs (no MOST: any number). Then its inputs in order, over all versions: a letter
where inputs with this letter have one type, the number of its set or `-` for any, `?` where it may be left out, `*` where the rest is
like it.
"""
import onnx
from onnx import defs
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

NAMES = {"float": "float32", "double": "float64"}
ALL = {t for t in NAMES.values()} | {t[7:-1] for s in defs.get_all_schemas_with_history() if s.name == "Identity" for i in s.inputs for t in i.types if t.startswith("tensor(")}


class Formal:
    def __init__(self, option, of, types, homogeneous=True):
        self.variadic = "Variadic" in str(option)
        self.optional = "Optional" in str(option)
        self.homogeneous = homogeneous
        self.of = of
        self.types = types


def element(t):
    inner = t[len("tensor("):-1]
    return NAMES.get(inner, inner)


def versions():
    """(domain, name) -> [(since, least, most, formals)]"""
    found = {}
    for s in defs.get_all_schemas_with_history():
        if s.domain != "" or s.deprecated:
            continue
        formals = [Formal(i.option, i.type_str, set(i.types), i.is_homogeneous) for i in s.inputs]
        found.setdefault((s.domain, s.name), []).append((s.since_version, s.min_input, s.max_input, formals))
    for s in get_all_operator_schema():
        if s.domain != "com.microsoft" or not (s.name.startswith("QLinear") or s.name == "QGemm"):
            continue
        allowed = {t.type_param_str: set(t.allowed_type_strs) for t in s.type_constraints}
        formals = [Formal(i.option, i.typeStr, allowed.get(i.typeStr, {i.typeStr}), i.isHomogeneous) for i in s.inputs]
        found.setdefault((s.domain, s.name), []).append((s.since_version, s.min_input, s.max_input, formals))
    return {k: sorted(v, key=lambda row: row[0]) for k, v in found.items()}


def main():
    sets, lines = {}, []
    for (domain, name), rows in sorted(versions().items()):
        arity = []
        for since, least, most, _ in rows:
            text = f"{least}..{most if most < 1000 else ''}"
            if not arity or arity[-1][1] != text:
                arity.append((since, text))
        count = max(len(row[3]) for row in rows)
        letters = {}
        inputs = []
        for i in range(count):
            here = [row[3][i] for row in rows if i < len(row[3])]
            types = set().union(*(f.types for f in here))
            plain = all(t.startswith("tensor(") for t in types)
            elements = {element(t) for t in types} if plain else ALL
            kind = "-" if elements >= ALL else str(sets.setdefault(tuple(sorted(elements)), len(sets)))
            # One type with the inputs that are called alike wherever both are.
            letter = ""
            if plain and all(f.homogeneous for f in here) and any(len(f.types) > 1 for f in here):
                for j in range(i):
                    both = [(row[3][i].of, row[3][j].of) for row in rows if i < len(row[3]) and j < len(row[3])]
                    if j in letters and both and all(a == b for a, b in both):
                        letter = letters[j]
                        break
                else:
                    letter = chr(ord("a") + len(set(letters.values())))
                letters[i] = letter
            ending = "*" if any(f.variadic for f in here) else "?" if any(f.optional for f in here) else ""
            inputs.append([letter, kind, ending])
        # A letter that stands alone says nothing.
        for row in inputs:
            if row[2] != "*" and sum(other[0] == row[0] for other in inputs) < 2:
                row[0] = ""
        lines.append(f"{domain}:{name} {' '.join(f'{s}:{t}' for s, t in arity)} / {' '.join(''.join(row) for row in inputs)}".rstrip())
    for types, number in sets.items():
        print(f"set {number} {' '.join(types)}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
