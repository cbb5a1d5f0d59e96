"""The page of `l2ljax report` in a browser, as people use it: Debian's Chromium, driven here."""

import json
import os
import re
import shutil

import pytest
from run_directories import make_run

from l2ljax.command import main

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
READABLE = 3.0
"""Least contrast of a curve with its background: WCAG 2.2, 1.4.11."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not os.access(CHROMIUM, os.X_OK):
        pytest.skip("There is no Chromium; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of three seeds, one of them long, beside another run."""
    pytest.importorskip("plotly")
    folder = tmp_path_factory.mktemp("reports")
    for seed, factor in enumerate([1.0, 4.0, 2.0]):
        make_run(folder / f"seed{seed}", seed=seed, factor=factor)
    make_run(folder / ("a-long-name-" * 6), task="mlp", evaluated=False, finished=False)
    out = folder / "report.html"
    assert main(["report", *map(str, sorted(folder.iterdir())), f"--out={out}", "--quiet"]) == 0
    return out


@pytest.fixture(scope="module")
def opened(browser, report):
    """Opens the page in a width and a theme; whatever it says or asks for must be nothing."""
    pages = {}

    def get(width, theme):
        if (width, theme) not in pages:
            x, y = WIDTHS[width]
            context = browser.new_context(
                viewport={"width": x, "height": y}, color_scheme=theme, offline=True
            )
            page, said = context.new_page(), []
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: said.append(request.url))
            page.goto(report.as_uri())
            page.wait_for_function(
                "document.querySelectorAll('.main-svg').length"
                " >= document.querySelectorAll('.plot').length"
            )
            said.remove(report.as_uri())
            pages[width, theme] = page, said
        return pages[width, theme]

    return get


def luminance(colour):
    """Of "rgb(r, g, b)" or "#rrggbb", as WCAG defines it."""
    if colour.startswith("#"):
        parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    else:
        parts = [int(float(n)) for n in re.findall(r"[\d.]+", colour)[:3]]
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_drawn_and_readable(width, theme, opened):
    """In the system's theme; no error, no request, nothing to scroll sideways."""
    page, said = opened(width, theme)
    assert said == []
    inside, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert inside <= window
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(paper) > 0.5) == (theme == "light")
    drawn = page.evaluate(
        "[...document.querySelectorAll('.plot .lines path.js-line')].map((e) => [e.style.stroke,"
        " e.closest('.trace').style.opacity || '1', e.style.strokeWidth])"
    )
    whole = {stroke for stroke, opacity, size in drawn if opacity == "1" and size != "0px"}
    assert len(whole) >= 4
    assert all(contrast(stroke, paper) >= READABLE for stroke in whole)
    text = page.evaluate("document.querySelector('.plot .xtick text').style.fill")
    assert contrast(text, paper) >= 4.5


@pytest.mark.parametrize(("width", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_nothing_serious(width, theme, opened):
    """Names, roles, contrast of text, the order of headings, with all tables open."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, _ = opened(width, theme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    found = axe.Axe().run(page).response["violations"]
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = false })")
    told = [(v["impact"], v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found]
    assert [one for one in told if one[0] in ("serious", "critical")] == []


def test_curves_axes_and_theme_answer_to_buttons(opened):
    """A name takes its curve away and brings it back, by mouse and keyboard; axes; colours."""
    page, said = opened("desktop", "light")
    figure = page.locator("figure", has=page.locator("#plot-meta-loss"))
    shown = "document.getElementById('plot-meta-loss').data.filter((t) => t.visible).length"
    before = page.evaluate(shown)
    name = figure.get_by_role("button", name="seed0 … seed2: median of 3 seeds", exact=True)
    name.click()
    assert name.get_attribute("aria-pressed") == "false"
    assert page.evaluate(shown) == before - 3  # the median and its band
    name.press("Enter")
    assert page.evaluate(shown) == before
    axes = (
        "(({xaxis, yaxis}) => [xaxis.type, yaxis.type])(document.getElementById('plot-meta-loss')"
    )
    axes += "._fullLayout)"
    assert page.evaluate(axes) == ["linear", "log"]  # 1000 / update spans decades
    figure.get_by_role("button", name="Log y").click()
    figure.get_by_role("button", name="Log x").click()
    assert page.evaluate(axes) == ["log", "linear"]
    button = page.locator("#theme")
    assert button.text_content() == "Dark colours"
    button.click()
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.1
    tick = page.evaluate("document.querySelector('.plot .xtick text').style.fill")
    assert luminance(tick) > 0.5
    button.click()
    assert said == []


def test_a_hover_reads_the_numbers(opened):
    """Over the end of the learned curve: 2 * 2^-8, the median of 1, 4 and 2 times 2^-8."""
    page, _ = opened("desktop", "light")
    plot = page.locator("#plot-evaluation-0")
    plot.scroll_into_view_if_needed()
    x, y = page.evaluate(
        "(() => { const p = document.getElementById('plot-evaluation-0'), l = p._fullLayout;"
        " const t = p.data.findLast((d) => d.name.endsWith('LSTM'));"
        " const b = p.getBoundingClientRect();"
        " return [b.left + l._size.l + l.xaxis.c2p(t.x[8]) - 2,"
        " b.top + l._size.t + l.yaxis.d2p(t.y[8])]; })()"
    )
    page.mouse.move(x - 20, y)
    page.mouse.move(x, y)
    read = plot.locator(".hoverlayer")
    read.get_by_text("LSTM").first.wait_for(timeout=5000)
    text = " ".join(read.all_text_contents())
    assert "0.007813" in text, text  # 2^-7 as JavaScript rounds it


def test_the_data_of_the_page_are_json(report):
    """What the browser reads: one list of figures."""
    text = report.read_text()
    (found,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', text)
    assert {figure["id"] for figure in json.loads(found)} >= {"meta-loss", "evaluation-0"}
