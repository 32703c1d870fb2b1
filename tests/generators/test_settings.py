"""How an endpoint is asked: read as it is typed, and what cannot be used is named."""

import pytest
from pydantic import ValidationError
from tests.generators.chat_server import ChatServer, picture, serving

from foveate.context import Context
from foveate.generators import Endpoint, EndpointError, Request, Sampling
from foveate.images import PixelBudget, View
from foveate.regions import Box

URL = "http://localhost:1/v1"


def test_settings_are_read_as_they_are_typed():
    endpoint = Endpoint.of(URL, ["concurrency=16", "family=qwen3-vl", "prompt_price=2.5", "max_pixels=4096"])
    assert (endpoint.concurrency, endpoint.family, endpoint.timeout) == (16, "qwen3-vl", 120.0)
    assert (endpoint.prices.prompt, endpoint.prices.completion) == (2.5, 0)
    assert endpoint.generator("m").family == endpoint.family_of("m")
    assert (endpoint.family_of("m").name, endpoint.family_of("m").budget) == ("qwen3-vl", PixelBudget(4096, 4096))
    assert Endpoint.of(URL).prices is None
    assert Endpoint.of(URL, ["retries=1", "retries=2"]).retries == 2


def test_every_setting_reaches_the_server_that_it_is_about():
    typed = ["jpeg_quality=90", 'extra={"top_p": 0.5, "stop": ["="]}']
    server = ChatServer()
    with serving(server):
        made = Endpoint.of(server.url, typed).generator("m")
        shown = Context.user(View(picture(3), Box(0, 0, 56, 56), (56, 56)), "Add item 21.")
        made.generate([Request(shown, (0,))], Sampling(0.0, 16))
    [body] = server.bodies
    assert (body["top_p"], body["stop"]) == (0.5, ["="])
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg")
    plain = Endpoint.of(server.url).generator("m")
    assert made.identity != plain.identity, "replies to other requests are not taken for these"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("concurrency", "is no setting: write it as concurrency=16"),
        ("concurrency=0", "concurrency: Input should be greater than 0"),
        ("speed=9", "no setting speed; there are family, max_pixels, "),
        ("url=http://elsewhere/v1", "no setting url; there are family, "),
        ("timeout=soon", "timeout: Input should be a valid number"),
        ("timeout=0", "timeout: Input should be greater than 0"),
        ("retries=-1", "retries: Input should be greater than or equal to 0"),
        ("requests_per_minute=0", "requests_per_minute: Input should be greater than 0"),
        ("jpeg_quality=200", "jpeg_quality: Input should be less than or equal to 95"),
        ("max_pixels=0", "max_pixels: Input should be greater than 0"),
        ("extra=top_p", r'extra: .*write a JSON object, such as \{"top_p": 1.0\}'),
        ("extra=[1]", "extra: .*write a JSON object"),
    ],
)
def test_a_setting_that_is_none(setting, message):
    with pytest.raises(EndpointError, match=message):
        Endpoint.of(URL, [setting])


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "http://", ""])
def test_what_is_no_url_of_an_endpoint(url):
    with pytest.raises(EndpointError, match=r"is not the URL of an endpoint, such as http://localhost:8000/v1$"):
        Endpoint.of(url)


def test_settings_in_python_have_the_same_bounds():
    with pytest.raises(ValidationError, match="jpeg_quality"):
        Endpoint(url=URL, jpeg_quality=96)
    assert Endpoint(url=URL, extra={"top_p": 1}).extra == {"top_p": 1}
