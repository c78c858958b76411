"""Writes operators.txt: python3 operators.py > operators.txt (needs the package `onnx`)."""

import onnx

OLDEST = 14
SOURCE = "ONNX operators: name, first version of this form, inputs, outputs, attributes (! where required)"


def form(schema):
    if schema.deprecated:
        return "deprecated"
    count = lambda least, most: f"{least}..{'*' if most > 1000 else most}"
    inputs = count(schema.min_input, schema.max_input)
    outputs = count(schema.min_output, schema.max_output)
    attributes = [name + "!" * a.required for name, a in sorted(schema.attributes.items())]
    return f"{inputs} {outputs} {','.join(attributes) or '-'}"


versions = {}
for schema in onnx.defs.get_all_schemas_with_history():
    if schema.domain == "":
        versions.setdefault(schema.name, []).append(schema)
print(f"# {SOURCE}. Up to version {onnx.defs.onnx_opset_version()}.")
for name, schemas in sorted(versions.items()):
    schemas.sort(key=lambda schema: schema.since_version)
    in_force = [schema for schema in schemas if schema.since_version <= OLDEST][-1:]
    last = None
    for schema in in_force + [schema for schema in schemas if schema.since_version > OLDEST]:
        if form(schema) != last:
            last = form(schema)
            print(name, schema.since_version, last)
