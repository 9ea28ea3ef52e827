"""The report of a study in Chromium, with no network: pointing, sorting, the keyboard, the looks.

``REQUIRED_BROWSER=1`` in the environment makes these tests fail, not be skipped, where Chromium,
its driver or Selenium is missing.
"""

from __future__ import annotations

import io
import os
import shutil
import time

import numpy as np
import pytest
from conftest import framework
from test_page import read_interval, read_number

import obstruction as ob
from obstruction.tools.parsing import parse_axis

framework("bokeh")

SCHEMES = ("xavier_normal", "orthogonal")
D = tuple(range(1, 13))
L = tuple(parse_axis("l", "geom:1:64:8"))
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *(
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ),
)

# where a size (d, l) of a map is on the screen
PLACE = """
const root = JSON.parse(document.getElementById("data").textContent).maps.roots[arguments[0]];
const view = [...Bokeh.index].find((view) => view.model.id === root);
const box = view.canvas_view.el.getBoundingClientRect();
return [box.x + view.frame.x_scale.compute(arguments[1]),
        box.y + view.frame.y_scale.compute(arguments[2])];
"""

# the text of the tooltips that are shown, which are deep in Bokeh's shadows
TOOLTIPS = """
const found = [];
const walk = (node) => {
  if (node.classList?.contains("bk-Tooltip") && node.checkVisibility()) {
    found.push([...node.shadowRoot.querySelectorAll("tr")].map(
      (row) => [...row.cells].map((cell) => cell.textContent)));
  }
  for (const child of node.children) walk(child);
  if (node.shadowRoot) for (const child of node.shadowRoot.children) walk(child);
};
walk(document.body);
return found;
"""


def selenium():
    """Return Selenium's drivers and the programs it needs, or skip the test."""
    programs = [
        next(filter(None, map(shutil.which, names)), None)
        for names in (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))
    ]
    try:
        from selenium import webdriver
    except ImportError:
        webdriver = None
    if webdriver is None or not all(programs):
        assert not os.environ.get("REQUIRED_BROWSER"), f"selenium: {webdriver}, found {programs}"
        pytest.skip("needs Chromium, its driver and Selenium")
    return webdriver, *programs


@pytest.fixture(scope="module")
def study():
    return ob.sample(SCHEMES, d=D, l=L, networks=1000, estimator="auto", samples=100)


@pytest.fixture(scope="module")
def browser(study, tmp_path_factory):
    webdriver, chromium, driver = selenium()
    place = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={place / 'profile'}"):
        options.add_argument(flag)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver)
    with webdriver.Chrome(options=options, service=service) as made:
        made.set_script_timeout(60)
        path = ob.write_report(study, place / "report.html")
        made.address = path.as_uri()
        yield made


@pytest.fixture
def page(browser):
    """The report, freshly opened and drawn, in a window of 1200 x 1000."""
    resize(browser, 1200, 1000)
    browser.get(browser.address)
    until(lambda: browser.execute_script("return document.documentElement.dataset.maps") == "ready")
    yield browser
    severe = [line for line in browser.get_log("browser") if line["level"] not in ("INFO", "DEBUG")]
    assert not severe


def until(true, seconds=60.0):
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def resize(browser, width, height):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def by_id(page, name):
    return page.find_element("id", name)


def drawn(page):
    """Wait until what was changed is on the screen."""
    page.execute_async_script(
        "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(arguments[0], 200)))"
    )


def point(page, scheme, d, l):
    """Move the pointer onto a cell of a map and return what the tooltip says."""
    from selenium.webdriver import ActionChains

    x, y = page.execute_script(PLACE, scheme, d, l)
    actions = ActionChains(page)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.perform()
    want = [str(d), str(l)]
    return until(
        lambda: next(
            (
                dict(rows)
                for rows in page.execute_script(TOOLTIPS)
                if [value for _, value in rows][:2] == want
            ),
            None,
        )
    )


def row_of(study, scheme, d, l):
    table = study.table()
    (row,) = table[(table["scheme"] == scheme) & (table["d"] == d) & (table["l"] == l)].to_dict(
        "records"
    )
    return row


def check_cell(shown, row):
    """Check texts of a cell against its row of the study's table."""
    if np.isnan(row["exact"]):
        assert shown["exact"] == shown["z"] == "—"
    else:
        assert read_number(shown["exact"])[0] == pytest.approx(row["exact"], rel=5.1e-4)
        assert float(shown["z"].replace("−", "-")) == pytest.approx(row["z"], abs=0.0051)
    value, unit = read_number(shown["empirical"])
    low, high = read_interval(shown["95 % interval"])
    assert low <= row["ci_low"]
    assert row["ci_high"] <= high * (1 + 1e-12)
    assert abs(value - row["empirical"]) <= 0.501 * unit or shown["empirical"][0] in "<>"
    assert shown["estimator"] == row["estimator"]


def test_pointing_at_a_cell_tells_its_numbers(page, study):
    page.execute_script("document.getElementById('maps').scrollIntoView()")
    for scheme, d, l in ((0, D[3], L[2]), (0, D[0], L[-1]), (0, D[-1], L[0]), (1, D[5], L[4])):
        check_cell(point(page, scheme, d, l), row_of(study, SCHEMES[scheme], d, l))


def test_nothing_is_fetched(page):
    fetched = page.execute_script("return performance.getEntriesByType('resource')")
    assert [one["name"] for one in fetched if not one["name"].startswith("data:")] == []
    assert page.execute_script("return document.title").startswith("Obstruction at")


def rows(page):
    return page.execute_script(
        "return [...document.querySelector('#table tbody').rows].map("
        "(row) => [...row.cells].map((cell) => cell.textContent))"
    )


def all_rows(page):
    """Return the rows of all pages, going through them by the keyboard."""
    from selenium.webdriver import Keys

    found = rows(page)
    following = page.find_element("css selector", "[data-page=next]")
    for _ in range(100):
        if following.get_attribute("aria-disabled") == "true":
            return found
        following.send_keys(Keys.ENTER)
        found += rows(page)
    raise AssertionError("no end")


COLUMNS = {"scheme": 0, "d": 1, "l": 2, "exact": 3, "empirical": 4, "z": 6}


@pytest.mark.parametrize("column", ["z", "exact"])
def test_the_headings_sort(page, study, column):
    from selenium.webdriver import Keys

    head = page.find_element("css selector", f"#table th[data-column={column}]")
    button = head.find_element("tag name", "button")
    assert head.get_attribute("aria-sort") == "none"
    table = study.table()
    name = {"exact": "log10_exact"}.get(column, column)
    for key, word, up in ((Keys.ENTER, "ascending", True), (Keys.SPACE, "descending", False)):
        button.send_keys(key)
        assert head.get_attribute("aria-sort") == word
        assert word in by_id(page, "status").text
        others = page.find_elements("css selector", "#table th[aria-sort]")
        assert [o.get_attribute("aria-sort") for o in others].count("none") == len(others) - 1
        wanted = table.sort_values(name, ascending=up, kind="stable", na_position="last")
        shown = all_rows(page)
        assert [tuple(row[:3]) for row in shown] == [
            (cell.scheme, str(cell.d), str(cell.l)) for cell in wanted.itertuples()
        ]
        if column == "z":  # cells without exact value come last in both directions
            assert {row[COLUMNS["z"]] for row in shown[-len(D) * len(L) :]} == {"—"}


def test_the_table_is_filtered(page):
    by_id(page, "filter-d").send_keys("2,5:9:2")
    by_id(page, "filter-l").send_keys(f"{L[1]}")
    assert {row[1] for row in rows(page)} == {"2", "5", "7", "9"}
    assert {row[2] for row in rows(page)} == {str(L[1])}
    assert by_id(page, "status").text == "Cells 1 to 8 of 8"
    page.execute_script(
        "const list = document.getElementById('filter-scheme'); list.value = '1';"
        "list.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert {row[0] for row in rows(page)} == {SCHEMES[1]}
    by_id(page, "filter-d").send_keys("x")
    assert by_id(page, "filter-d").get_attribute("aria-invalid") == "true"
    assert by_id(page, "filter-error").text.startswith("d: write a size")
    page.find_element("css selector", "#filters button[type=reset]").click()
    until(lambda: by_id(page, "status").text == f"Cells 1 to 25 of {2 * len(D) * len(L)}")
    assert by_id(page, "filter-error").text == ""


def test_the_keyboard_reaches_all_and_shows_where_it_is(page, study):
    from selenium.webdriver import Keys

    seen = []
    for _ in range(60):
        page.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(
            page.execute_script(
                "const e = document.activeElement, s = getComputedStyle(e);"
                "return [e.id || e.dataset.page || e.parentNode.dataset.column || e.className"
                " || e.value || e.tagName,"
                " parseFloat(s.outlineWidth) * (s.outlineStyle !== 'none')]"
            )
        )
        if seen[-1][0] == "last":
            break
    names = [name for name, _ in seen]
    wanted = ["skip", "exact", "map-0", "map-1", "filter-scheme", "filter-d", "filter-l"]
    wanted += [*COLUMNS, "estimator"]
    places = [names.index(name) for name in wanted]
    assert len(set(places)) >= len(wanted) - 1  # "exact" is a radio button and a heading
    marked = dict(seen)
    assert all(marked[name] >= 2 for name in wanted)
    plot = by_id(page, "map-0")
    plot.send_keys(Keys.ARROW_RIGHT)
    plot.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    text = by_id(page, "readout-0").text
    assert text.startswith(f"d = {D[2]}, l = {L[1]}: exact ")
    exact = text.partition("exact ")[2].partition(",")[0]
    row = row_of(study, SCHEMES[0], D[2], L[1])
    assert read_number(exact)[0] == pytest.approx(row["exact"], rel=5.1e-4)
    plot.send_keys(Keys.END, Keys.PAGE_UP)
    assert by_id(page, "readout-0").text.startswith(f"d = {D[-1]}, l = {L[-1]}: ")


def test_the_skip_link_leads_to_the_content(page):
    from selenium.webdriver import Keys

    page.switch_to.active_element.send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("class") == "skip"
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.switch_to.active_element.get_attribute("id") == "main"


def colour_at(page, scheme, d, l):
    from PIL import Image

    x, y = page.execute_script(PLACE, scheme, d, l)
    image = Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB")
    return np.array(image.getpixel((round(x), round(y))))


def test_cells_have_the_colours_of_their_values(page, study):
    page.execute_script("document.getElementById('maps').scrollIntoView()")
    drawn(page)
    scales = page.execute_script(
        "return JSON.parse(document.getElementById('data').textContent).scales"
    )
    for kind, column, name in (
        ("exact", "exact", "chance"),
        ("z", "z", "z"),
        ("log10 empirical", "log10_empirical", "log10"),
    ):
        page.find_element("css selector", f"input[value='{kind}']").click()
        drawn(page)
        scale = scales[name]
        for d, l in ((2, L[4]), (9, L[1]), (12, L[7])):
            value = row_of(study, SCHEMES[0], d, l)[column]
            share = (value - scale["low"]) / (scale["high"] - scale["low"])
            palette = scale["palette"]
            colour = palette[int(np.clip(share * len(palette), 0, len(palette) - 1))]
            wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            assert np.abs(colour_at(page, 0, d, l) - wanted).max() <= 4, (kind, d, l)
        grey = colour_at(page, 1, 5, L[3])
        if kind != "log10 empirical":  # orthogonal weights have no exact values
            assert np.ptp(grey) == 0


@pytest.mark.parametrize("width", [400])
def test_narrow_and_enlarged_pages_need_no_sideways_scrolling(page, width):
    """400 pixels are those of a window of 1280 at 320 %."""
    resize(page, width, 900)
    drawn(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    box = page.execute_script(
        "const box = document.getElementById('map-0').getBoundingClientRect();"
        "return [box.left, box.right]"
    )
    assert box[0] >= 0
    assert box[1] <= width
