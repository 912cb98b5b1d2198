"""Writes src/model/ops/schema.txt: how many inputs each operator takes and of which element types, and its attributes, as the onnx package (and
onnxruntime, for its own operators that we run) defines them.

usage: op_schemas.py > schema.txt

    set N TYPE...                 a set of element types
    late V I N : NAME...          with version V of the operator set, input I of these operators got the types of set N
    DOMAIN:NAME V:LEAST..MOST ... / INPUT ... / ATTRIBUTE:KINDS ...

A line for each operator: since version V it takes so many inputs (no MOST: any number). Then its inputs in order, over all versions: a letter
where inputs with this letter have one type, the number of its set or `-` for any, `?` where it may be left out, `*` where the rest is
like it. Then its attributes: the kinds that they have in some version (f: float, i: int, s: string, t: tensor, g: graph, p: type; capitals: lists),
`!` where all versions demand it.
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


KINDS = {"FLOAT": "f", "INT": "i", "STRING": "s", "TENSOR": "t", "GRAPH": "g", "TYPE_PROTO": "p", "SPARSE_TENSOR": "x",
         "FLOATS": "F", "INTS": "I", "STRINGS": "S", "TENSORS": "T", "GRAPHS": "G", "TYPE_PROTOS": "P", "SPARSE_TENSORS": "X"}


def attributes(schema):
    """name -> (kind, required)"""
    return {name: (KINDS[str(a.type).split(".")[-1]], a.required) for name, a in schema.attributes.items()}


def element(t):
    inner = t[len("tensor("):-1]
    return NAMES.get(inner, inner)


def versions():
    """(domain, name) -> [(since, least, most, formals, attributes)]"""
    found = {}
    for s in defs.get_all_schemas_with_history():
        if s.domain != "" or s.deprecated:
            continue
        formals = [Formal(i.option, i.type_str, set(i.types), i.is_homogeneous) for i in s.inputs]
        found.setdefault((s.domain, s.name), []).append((s.since_version, s.min_input, s.max_input, formals, attributes(s)))
    for s in get_all_operator_schema():
        if s.domain != "com.microsoft" or not (s.name.startswith("QLinear") or s.name == "QGemm"):
            continue
        allowed = {t.type_param_str: set(t.allowed_type_strs) for t in s.type_constraints}
        formals = [Formal(i.option, i.typeStr, allowed.get(i.typeStr, {i.typeStr}), i.isHomogeneous) for i in s.inputs]
        found.setdefault((s.domain, s.name), []).append((s.since_version, s.min_input, s.max_input, formals, attributes(s)))
    return {k: sorted(v, key=lambda row: row[0]) for k, v in found.items()}


def main():
    sets, lines = {}, []
    for (domain, name), rows in sorted(versions().items()):
        arity = []
        for since, least, most, *_ in rows:
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
        known = []
        for attribute in sorted(set().union(*(row[4] for row in rows))):
            here = [row[4][attribute] for row in rows if attribute in row[4]]
            kinds = "".join(sorted({kind for kind, _ in here}))
            demanded = len(here) == len(rows) and all(required for _, required in here)
            known.append(f"{attribute}:{kinds}{'!' if demanded else ''}")
        counts = " ".join(f"{s}:{t}" for s, t in arity)
        lines.append(f"{domain}:{name} {counts} / {' '.join(''.join(row) for row in inputs)} / {' '.join(known)}".rstrip())
    late = {}
    for (domain, name), rows in sorted(versions().items()):
        for (_, _, _, old, _), (since, _, _, new, _) in zip(rows, rows[1:]):
            if domain or since < 12:
                continue
            for i in range(min(len(old), len(new))):
                more = tuple(sorted(element(t) for t in new[i].types - old[i].types if t.startswith("tensor(")))
                if more:
                    late.setdefault((since, i, sets.setdefault(more, len(sets))), []).append(name)
    lines[:0] = [f"late {since} {i} {number} : {' '.join(names)}" for (since, i, number), names in sorted(late.items())]
    for types, number in sets.items():
        print(f"set {number} {' '.join(types)}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
