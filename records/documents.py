"""Reads JSON documents by pydantic models, with one clear line about the first mistake."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class Document(BaseModel):
    """A part of a document that this program writes: exactly its fields, and finite numbers."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        # What has a default is written all the same, so the schema says that it is always there.
        json_schema_serialization_defaults_required=True,
    )


def parse(model: type[Model], text: str | bytes, *, what: str) -> Model:
    """A document from its JSON; one line of ValueError names `what` and its first wrong field."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_input=False)
        field = ".".join(str(part) for part in first["loc"])
        more = f" (and {len(others)} more)" if others else ""
        raise ValueError(f"{what}: {field + ': ' if field else ''}{first['msg']}{more}") from None
