"""The keys of a recipe, from its JSON schema: for help, for completion and for what is said of a wrong key."""

from typing import Any

from scoreinv.spec import Spec

Row = tuple[str, str, str, str]
"""Key, values, default, meaning; or a kind that can be chosen, as "source.kind=dicom", and its meaning."""


def key_rows(kind: type[Spec], prefix: str = "") -> list[Row]:
    """Every key of a recipe, and every kind of its unions before the keys of that kind."""
    schema = kind.model_json_schema()
    return _rows(schema, schema.get("$defs", {}), prefix, {})


def keys_at(place: tuple[int | str, ...], schema: dict[str, Any]) -> list[str]:
    """The keys that a place of a recipe has, as ("source", "dicom"); kinds that were chosen are parts of the place."""
    defs, target = schema.get("$defs", {}), schema
    for part in place:
        kinds = target.get("discriminator", {}).get("mapping", {})
        inner = target.get("properties", {}).get(part, target.get("items", {}))
        target = resolved({"$ref": kinds[part]} if part in kinds else inner, defs)
    return list(target.get("properties", {}))


def _rows(schema: dict[str, Any], defs: dict[str, Any], prefix: str, defaults: dict[str, Any]) -> list[Row]:
    """One row per key below a prefix; ``defaults`` are those of the field that holds these keys."""
    rows = []
    for name, field in schema.get("properties", {}).items():
        target = resolved(field, defs)
        default = defaults.get(name, field.get("default"))
        meaning = str(field.get("description") or target.get("description", "").split("\n")[0])
        rows.append((f"{prefix}{name}", _value(target, defs), _short(default), meaning))
        rows += _rows_below(target, defs, f"{prefix}{name}", default if isinstance(default, dict) else {})
    return rows


def _rows_below(target: dict[str, Any], defs: dict[str, Any], key: str, defaults: dict[str, Any]) -> list[Row]:
    if "discriminator" in target:
        kinds = target["discriminator"]["mapping"].items()
        members = [(kind, defs[ref.rsplit("/", 1)[-1]]) for kind, ref in kinds]
        return [row for kind, member in members for row in _rows_of_kind(kind, member, defs, key, defaults)]
    if "properties" in target:
        return _rows(target, defs, f"{key}.", defaults)
    items = resolved(target.get("items", {}), defs)
    return _rows(items, defs, f"{key}.0.", {}) if target.get("type") == "array" and "properties" in items else []


def _rows_of_kind(
    kind: str, member: dict[str, Any], defs: dict[str, Any], key: str, defaults: dict[str, Any]
) -> list[Row]:
    head = (f"{key}.kind={kind}", "", "", member.get("description", "").split("\n")[0])
    own = defaults if defaults.get("kind") == kind else {}
    return [head, *(row for row in _rows(member, defs, f"{key}.", own) if row[0] != f"{key}.kind")]


def resolved(field: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """The schema that a field's schema refers to, without the choice of null."""
    options = [option for option in field.get("anyOf", ()) if option.get("type") != "null"]
    inner = options[0] if len(options) == 1 else field
    return defs[inner["$ref"].rsplit("/", 1)[-1]] if "$ref" in inner else inner


def _value(target: dict[str, Any], defs: dict[str, Any]) -> str:
    if "enum" in target:
        return " | ".join(map(str, target["enum"]))
    if "const" in target:
        return str(target["const"])
    if "discriminator" in target:
        return "one of the kinds below"
    bounds = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}
    limits = [f"{sign} {target[name]}" for sign, name in bounds.items() if name in target]
    kind = "" if "properties" in target else str(target.get("type", "value"))
    return ", ".join(part for part in [kind, *limits] if part)


def _short(default: Any) -> str:
    return "" if default is None or isinstance(default, dict | list) else str(default)
