import jinja2
import pytest

from training.stage.pages import render_page


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "page.html.jinja"
    path.write_text("<p>{{ name }}</p>")
    return path


def test_what_is_text_can_not_become_markup(template):
    assert render_page(template, name="<b>") == "<p>&lt;b&gt;</p>"


def test_a_name_without_a_value_is_an_error(template):
    with pytest.raises(jinja2.UndefinedError, match="name"):
        render_page(template, nam="x")
