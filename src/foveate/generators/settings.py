"""How an endpoint is asked, as settings that a person types."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from foveate.families.presets import EndpointFamily, endpoint_family, guess_family
from foveate.generators.faults import EndpointError
from foveate.generators.spending import Prices

if TYPE_CHECKING:
    from foveate.generators.endpoint import EndpointGenerator

USUAL_KEY = "OPENAI_API_KEY"


def _fields(value: object) -> object:
    """As they are typed, or as they are."""
    if not isinstance(value, str):
        return value
    try:
        fields = json.loads(value)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ValueError('write a JSON object, such as {"top_p": 1.0}')
    return fields


def _address(url: str) -> str:
    """Of the API, whether or not the user's URL goes on to what is asked of it."""
    address = url.rstrip("/").removesuffix("/chat/completions")
    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
        raise ValueError(f"{url!r} is not the URL of an endpoint, such as http://localhost:8000/v1")
    return address


class Endpoint(BaseModel):
    """Where a model answers that is not in this process, and how it is asked.

    Attributes:
        url: of the API; the client adds `/chat/completions`.
        family: a preset of `families.presets`; guessed from the model's name where None (`family_of`).
        max_pixels: of a view, instead of the preset's.
        api_key_env: the environment variable that holds the key. Unset, the usual one means that none is wanted.
        concurrency: requests at a time.
        requests_per_minute: at most; no limit where None.
        timeout: seconds for one whole reply.
        retries: further tries of a request that failed for what may pass.
        first_backoff: seconds before the first of them; doubled for each further one.
        failures_in_a_row: requests without a reply, one after the other, that end the run; three times the
            concurrency, and at least 20, where None.
        jpeg_quality: of the pictures that are sent; lossless PNG where None.
        extra: further fields of every request's body.
        prompt_price: per million tokens, in whatever currency.
        completion_price: likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    url: Annotated[str, AfterValidator(_address)]
    family: str | None = None
    max_pixels: int | None = Field(default=None, gt=0)
    api_key_env: str = USUAL_KEY
    concurrency: int = Field(default=8, gt=0)
    requests_per_minute: float | None = Field(default=None, gt=0)
    timeout: float = Field(default=120.0, gt=0)
    retries: int = Field(default=6, ge=0)
    first_backoff: float = Field(default=1.0, ge=0)
    failures_in_a_row: int | None = Field(default=None, gt=0)
    jpeg_quality: int | None = Field(default=None, ge=1, le=95)  # Pillow's own range
    extra: Annotated[Mapping[str, JsonValue], BeforeValidator(_fields)] = Field(default_factory=dict)
    prompt_price: float | None = Field(default=None, ge=0)
    completion_price: float | None = Field(default=None, ge=0)

    @classmethod
    def of(cls, url: str, settings: Sequence[str] = ()) -> Endpoint:
        """From settings as they are typed, such as `concurrency=16`; of two for the same, the later one holds.

        Raises:
            EndpointError: there is no such setting, or a value or the URL does not fit; each is named.
        """
        values: dict[str, Any] = {}
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals:
                raise EndpointError(f"{setting!r} is no setting: write it as concurrency=16")
            values[name.strip()] = value.strip()
        known = [name for name in cls.model_fields if name != "url"]
        if unknown := sorted(values.keys() - set(known)):
            raise EndpointError(f"an endpoint has no setting {', '.join(unknown)}; there are {', '.join(known)}")
        try:
            return cls(url=url, **values)
        except ValidationError as error:
            wrong = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())
            raise EndpointError(f"the endpoint's settings cannot be used: {wrong}") from None

    def generator(self, model: str) -> EndpointGenerator:
        """Who answers there under a model's name; raises as it does."""
        from foveate.generators.endpoint import EndpointGenerator  # it is made of these settings

        return EndpointGenerator(self, model)

    def family_of(self, model: str) -> EndpointFamily:
        """How a model is spoken to.

        Raises:
            UnsupportedModelError: there is no such family.
        """
        family = endpoint_family(self.family or guess_family(model))
        return family if self.max_pixels is None else family.with_max_pixels(self.max_pixels)

    def api_key(self) -> str | None:
        """What the environment holds; None where it holds none and none is wanted.

        Raises:
            EndpointError: the variable that was named is not set.
        """
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self.api_key_env != USUAL_KEY:
            raise EndpointError(
                f"the environment variable {self.api_key_env} holds no API key: set it, or name another"
            )
        return key or None

    @property
    def shown_url(self) -> str:
        """Without user, password and query, which may hold a key."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def prices(self) -> Prices | None:
        """None where neither was given."""
        if self.prompt_price is None and self.completion_price is None:
            return None
        return Prices(self.prompt_price or 0.0, self.completion_price or 0.0)
