# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The providers' own OpenAPI documents, found through the environment variable FLASKOPS_SPECS.

`Document` holds requests and answers against one, `compare` holds our contract against it. `oneOf` is read as `anyOf`: the
documents write it for alternatives that overlap. Everything else that is wrong with them is in corrections.yaml.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonpatch
import jsonpointer
import yaml
from jsonschema import Draft202012Validator

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CORRECTIONS = Path(__file__).parent / "corrections.yaml"
KEPT = ("type", "enum", "required", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern")
Problem = tuple[str, str]


def corrections(name: str) -> list[dict[str, Any]]:
    """The corrections of one document: operation, what, why, patch (JSON Patch), absent (what is missing in the document)."""
    return [entry for entry in yaml.load(CORRECTIONS.read_text(), Loader) if entry["document"] == name]


def corrected(data: Any, name: str) -> Any:
    """The document with its corrections; ValueError names one that doesn't apply any more."""
    for entry in corrections(name):
        try:
            for pointer in entry.get("absent", []):
                if jsonpointer.resolve_pointer(data, pointer, None) is not None:
                    raise jsonpatch.JsonPatchTestFailed(f"{pointer} is there")
            data = jsonpatch.apply_patch(data, entry["patch"])
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
            what = f"the correction of {name} for {entry['operation']} ({entry['what']})"
            raise ValueError(f"{what} no longer applies: {error}") from error
    return data


@lru_cache(maxsize=8)
def _read(path: Path, name: str, changed: float) -> Document:
    return Document(corrected(yaml.load(path.read_text(), Loader), name))


def load(name: str) -> Document | None:
    """The provider's document, or None where FLASKOPS_SPECS isn't set."""
    folder = os.environ.get("FLASKOPS_SPECS")
    if not folder:
        return None
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(f"FLASKOPS_SPECS is {folder}, but {name} isn't in it: put it there, or unset FLASKOPS_SPECS")
    return _read(path, name, path.stat().st_mtime)


class Document:
    """An OpenAPI 3.0 document as JSON schemas."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self._cache: dict[Any, Any] = {}

    def schema(self, node: Any, inside: tuple[str, ...] = ()) -> Any:
        """A schema of the document as JSON Schema: references put in place, `nullable` as a type."""
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            ref = node["$ref"]
            if ref in inside:
                return {}
            return self.schema(self.resolve(node), (*inside, ref))
        out: dict[str, Any] = {key: copy.copy(node[key]) for key in KEPT if key in node}
        for key in ("properties", "patternProperties"):
            if key in node:
                out[key] = {name: self.schema(part, inside) for name, part in node[key].items()}
        for key in ("items", "additionalProperties"):
            if key in node:
                out[key] = self.schema(node[key], inside)
        if "allOf" in node:
            out["allOf"] = [self.schema(part, inside) for part in node["allOf"]]
        alternatives = [*node.get("oneOf", []), *node.get("anyOf", [])]
        if alternatives:
            out["anyOf"] = [self.schema(part, inside) for part in alternatives]
        if node.get("nullable"):
            if "type" in out:
                out["type"] = [out["type"], "null"]
                if "enum" in out:
                    out["enum"] = [*out["enum"], None]
            elif out:
                out = {"anyOf": [out, {"type": "null"}]}
        return out

    def resolve(self, node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            target = self.data
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """Parameters (query), body by content type and answers by status of an operation, as JSON schemas."""
        if (method, path) not in self._cache:
            item = self.data["paths"].get(path, {})
            node = item.get(method.lower())
            if node is None:
                return None
            params = [self.resolve(param) for param in [*item.get("parameters", []), *node.get("parameters", [])]]
            self._cache[method, path] = {
                "query": {
                    param["name"]: {**self.schema(param.get("schema", {})), "x-required": bool(param.get("required"))}
                    for param in params
                    if param["in"] == "query"
                },
                "body": {
                    kind: self.schema(part.get("schema", {}))
                    for kind, part in self.resolve(node.get("requestBody", {})).get("content", {}).items()
                },
                "answers": {
                    str(status): {
                        kind: self.schema(part.get("schema", {}))
                        for kind, part in self.resolve(answer).get("content", {}).items()
                    }
                    for status, answer in node["responses"].items()
                },
            }
        return self._cache[method, path]

    def request_faults(self, method: str, path: str, query: dict[str, Any], body: Any, encoding: str) -> list[Problem]:
        """(field, sentence) for each way in which a request breaks the document."""
        operation = self.operation(method, path)
        if operation is None:
            return [("", "the provider's document has no such operation")]
        problems = [(name, "is no parameter in the provider's document") for name in query if name not in operation["query"]]
        problems += [
            (name, "is required by the provider's document")
            for name, schema in operation["query"].items()
            if schema["x-required"] and name not in query
        ]
        for name in query.keys() & operation["query"].keys():
            problems += self.faults(operation["query"][name], query[name], name)
        if body is not None and (body or operation["body"]):
            if encoding in operation["body"]:
                problems += self.faults(operation["body"][encoding], body)
            elif body:
                problems.append(("", f"the provider's document takes no {encoding} here"))
        return problems

    def answer_faults(self, method: str, path: str, status: int, body: Any) -> list[Problem]:
        """The same for an answer; the document may leave the answer's shape open."""
        operation = self.operation(method, path)
        answers = operation["answers"] if operation else {}
        schema = answers.get(str(status), answers.get("default", {})).get("application/json")
        return self.faults(schema, body) if schema is not None else []

    def faults(self, schema: Any, value: Any, name: str = "") -> list[Problem]:
        found = [
            (
                ".".join([*([name] if name else []), *map(str, error.absolute_path)]),
                f"{error.message[:300]} (the provider's document)",
            )
            for error in Draft202012Validator(schema).iter_errors(value)
        ]
        return found + [(path, "is no field in the provider's document") for path in unknown(schema, value, name)]


def branches(schema: dict[str, Any], value: Any) -> Iterator[dict[str, Any]]:
    """The schema and those parts of its allOf and anyOf whose one-word enums (`type: HTTP`) fit the value."""
    yield schema
    for part in schema.get("allOf", []):
        yield from branches(part, value)
    for part in schema.get("anyOf", []):
        enums = {name: sub["enum"] for name, sub in part.get("properties", {}).items() if "enum" in sub}
        if not isinstance(value, dict) or all(value[name] in enum for name, enum in enums.items() if name in value):
            yield from branches(part, value)


def unknown(schema: Any, value: Any, path: str = "") -> Iterator[str]:
    """Fields of the value that no branch of the schema names; an object without named fields is open."""
    if not isinstance(schema, dict):
        return
    parts = list(branches(schema, value))
    if isinstance(value, list):
        for part in parts:
            if "items" in part:
                for number, item in enumerate(value):
                    yield from unknown(part["items"], item, f"{path}.{number}" if path else str(number))
    if isinstance(value, dict):
        named = [part for part in parts if part.get("properties")]
        if not named or any(isinstance(part.get("additionalProperties"), dict) for part in parts):
            return
        patterns = [pattern for part in parts for pattern in part.get("patternProperties", {})]
        for key, item in value.items():
            subs = [part["properties"][key] for part in named if key in part["properties"]]
            here = f"{path}.{key}" if path else key
            if subs:
                found = [set(unknown(sub, item, here)) for sub in subs]
                yield from set.intersection(*found)
            elif not any(_matches(pattern, key) for pattern in patterns):
                yield here


def _matches(pattern: str, text: str) -> bool:
    return Draft202012Validator({"pattern": pattern}).is_valid(text)


# ---- contract against document ---------------------------------------------------------------------------------------


def merged(schema: Any, like: dict[str, Any] | None = None) -> dict[str, Any]:
    """One flat view of a schema: types, enum, required, properties and limits of all its branches together.

    `like` is the flat view of ours: alternatives that are for other values of an enum of ours are skipped.
    """
    out: dict[str, Any] = {
        "types": set(),
        "enum": None,
        "required": set(),
        "properties": {},
        "patterns": {},
        "items": None,
        "values": None,
        "limits": {},
    }
    if not isinstance(schema, dict):
        return out
    kinds = schema.get("type", [])
    out["types"] = {kinds} if isinstance(kinds, str) else set(kinds)
    if "enum" in schema and set(schema["enum"]) != {True, False}:
        out["enum"] = set(schema["enum"])
    out["required"] = set(schema.get("required", []))
    out["properties"] = {name: [part] for name, part in schema.get("properties", {}).items()}
    out["patterns"] = dict(schema.get("patternProperties", {}))
    out["items"] = schema.get("items")
    if isinstance(schema.get("additionalProperties"), dict):
        out["values"] = schema["additionalProperties"]
    out["limits"] = {key: schema[key] for key in ("minimum", "maximum", "maxLength", "maxItems") if key in schema}
    for part in schema.get("allOf", []):
        _join(out, merged(part, like), set.union)
    alternatives = [merged(part, like) for part in schema.get("anyOf", [])]
    if like:
        alternatives = [part for part in alternatives if _same_kind(part, like)] or alternatives
    if alternatives:
        both = alternatives[0]
        for part in alternatives[1:]:
            _join(both, part, set.intersection)
            if both["enum"] is not None:
                both["enum"] = both["enum"] | part["enum"] if part["enum"] is not None else None
            both["limits"] = {key: value for key, value in both["limits"].items() if part["limits"].get(key) == value}
        if any(not part["types"] and not part["properties"] for part in alternatives):
            both["types"] = set()
        _join(out, both, set.union)
    return out


def _join(out: dict[str, Any], part: dict[str, Any], require: Any) -> None:
    out["types"] |= part["types"]
    if out["enum"] is None and require is set.union:
        out["enum"] = part["enum"]
    out["required"] = require(out["required"], part["required"])
    for name, subs in part["properties"].items():
        out["properties"].setdefault(name, []).extend(subs)
    out["patterns"].update(part["patterns"])
    out["items"] = out["items"] or part["items"]
    out["values"] = out["values"] or part["values"]
    if require is set.union:
        out["limits"].update(part["limits"])


def _same_kind(part: dict[str, Any], like: dict[str, Any]) -> bool:
    for name, subs in part["properties"].items():
        enum = {value for sub in subs for value in sub.get("enum", [])}
        ours = {value for sub in like["properties"].get(name, []) for value in sub.get("enum", [])}
        if enum and ours and not enum & ours:
            return False
    return True


def differences(ours: Any, theirs: Any, path: str, answer: bool) -> Iterator[str]:
    """What of our schema the provider's schema doesn't bear out."""
    a = merged(ours)
    b = merged(theirs, a)
    accepted = b["types"] | ({"integer"} if "number" in b["types"] else set())
    if b["types"] and a["types"] - accepted:
        yield f"{path}: we say {'/'.join(sorted(a['types']))}, the document {'/'.join(sorted(b['types']))}"
    if answer and "null" in b["types"] and "null" not in a["types"]:
        yield f"{path}: may be null in the document"
    if b["enum"] is not None:
        if a["enum"] is None:
            yield f"{path}: the document allows only {sorted(map(str, b['enum']))}, we anything"
        elif a["enum"] - b["enum"]:
            yield f"{path}: the document doesn't know {sorted(map(str, a['enum'] - b['enum']))}"
        elif answer and b["enum"] - a["enum"]:
            yield f"{path}: we don't know {sorted(map(str, b['enum'] - a['enum']))}"
    if not answer:
        for key, limit in b["limits"].items():
            mine = a["limits"].get(key)
            loose = mine is None or (mine < limit if key == "minimum" else mine > limit)
            if loose and a["enum"] is None:
                yield f"{path}: the document's {key} is {limit}, ours {mine}"
        for name in sorted(b["required"] - a["required"]):
            yield f"{path}.{name}: required by the document, not by us"
    else:
        for name in sorted(a["required"] - b["required"]):
            yield f"{path}.{name}: required by us, not by the document"
    for name, subs in a["properties"].items():
        here = f"{path}.{name}"
        if all(sub is False for sub in subs):
            continue
        if name in b["properties"]:
            among = b["properties"][name]
            yield from differences(subs[0], among[0] if len(among) == 1 else {"anyOf": among}, here, answer)
        elif b["values"]:
            yield from differences(subs[0], b["values"], here, answer)
        elif b["properties"] or "object" not in b["types"]:
            yield f"{here}: not in the document"
    for pattern in a["patterns"].keys() - b["patterns"].keys():
        yield f"{path}: fields like {pattern} aren't in the document"
    if a["items"] and b["items"]:
        yield from differences(a["items"], b["items"], f"{path}[]", answer)
    elif a["items"] and b["types"]:
        yield f"{path}: no list in the document" if "array" not in b["types"] else f"{path}: the document doesn't say of what"
    if a["values"] and b["values"]:
        yield from differences(a["values"], b["values"], f"{path}.*", answer)


def variants(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Our schema for either side of its `if` on one field, so that each is held against the alternatives meant for it.

    A side has `required`, fields that are false, the only names that it allows, or an `if` of its own.
    """
    [(name, condition)] = schema.get("if", {}).get("properties", {"": None}).items()
    if name not in schema.get("properties", {}):
        return [schema]
    rest = [value for value in schema["properties"][name]["enum"] if value != condition["const"]]
    out = []
    for values, part in (([condition["const"]], schema["then"]), (rest, schema["else"])):
        dropped = {key for key, sub in part.get("properties", {}).items() if sub is False}
        kept = part.get("propertyNames", {}).get("enum", schema["properties"])
        fields = {key: sub for key, sub in schema["properties"].items() if key in kept and key not in dropped}
        side = {
            "type": "object",
            "required": [*schema.get("required", []), *part.get("required", [])],
            "properties": {**fields, name: {**fields[name], "enum": values}},
        }
        out += variants({**side, **{key: part[key] for key in ("if", "then", "else") if key in part}})
    return out


def compare(contract: Any, document: Document) -> list[str]:
    """Sentences for all that our contract says and the provider's document doesn't bear out."""
    found: list[str] = []
    for ours in contract.operations.values():
        call = f"{ours['method']} {ours['path']}"
        theirs = document.operation(ours["method"], ours["path"])
        if theirs is None:
            found.append(f"{call}: no such operation in the document")
            continue
        for name, schema in ours["query"].items():
            if name not in theirs["query"]:
                found.append(f"{call}: the document has no parameter {name}")
            else:
                found += differences(schema, theirs["query"][name], f"{call}: parameter {name}", False)
        found += [
            f"{call}: the document requires the parameter {name}"
            for name, schema in theirs["query"].items()
            if schema["x-required"] and name not in ours["query"]
        ]
        if ours["body"]:
            if contract.encoding in theirs["body"]:
                for variant in variants(ours["body"]):
                    found += differences(variant, theirs["body"][contract.encoding], f"{call}: request", False)
            elif ours["body"].get("properties"):
                found.append(f"{call}: the document takes no {contract.encoding}")
        status = str(ours["status"])
        if status not in theirs["answers"]:
            found.append(f"{call}: the document has no answer {status}")
            continue
        content = theirs["answers"][status].get("application/json")
        if ours["answer"] and content is None:
            found.append(f"{call}: the document's answer {status} has no JSON")
        elif ours["answer"]:
            found += differences(ours["answer"], content, f"{call}: answer", True)
        error = theirs["answers"].get("default", {}).get("application/json")
        if error is not None:
            found += differences(contract.error, error, f"{call}: error", True)
    return found
