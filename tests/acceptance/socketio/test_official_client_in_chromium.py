"""The official client in Chromium, on two nodes behind nginx that asks them in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.acceptance.socketio.conftest import TRANSPORTS
from tests.support.browser import chromium
from tests.support.processes import CHECKOUT

SCRIPT = CHECKOUT / "demo" / "static" / "demo" / "socket.io.min.js"

TALK = """
async ({ transports, room }) => {
  let doing = "connect";
  const late = new Promise((resolve) => setTimeout(() => resolve(`late: ${doing}`), 40000));
  const told = (socket, event, fits) => new Promise((resolve) => {
    socket.on(event, function hear(value) { if (fits(value)) { socket.off(event, hear); resolve(value); } });
  });
  const [ann, ben] = [0, 1].map(() => io({ transports, forceNew: true }));
  const talk = async () => {
    await Promise.all([ann, ben].map((each) => told(each, "connect", () => true)));
    doing = "upgrade";
    const names = await Promise.all([ann, ben].map(async ({ io: { engine } }) => {
      if (engine.transport.name !== transports.at(-1)) await new Promise((resolve) => engine.once("upgrade", resolve));
      return engine.transport.name;
    }));
    doing = "join";
    const notice = told(ann, "message", (value) => typeof value === "string");
    await ann.emitWithAck("join", room);
    await ben.emitWithAck("join", room);
    doing = "chat";
    const bytes = told(ben, "message", (value) => value.message?.data instanceof ArrayBuffer);
    const ack = await ann.emitWithAck("chat", room, { data: new Uint8Array([1, 2, 255]) });
    return { names, ack, notice: (await notice) === `user ${ben.id} joined`,
             bytes: [...new Uint8Array((await bytes).message.data)] };
  };
  const result = await Promise.race([talk(), late]);
  ann.close(); ben.close();
  return result;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A page of the cluster, with the official client in it."""
    context = browser.new_context(bypass_csp=True)  # the script is put in from outside
    page = context.new_page()
    page.goto(f"{url}/nothing-here")  # its 404: Chromium lets a page that was made up not open a WebSocket to here
    page.add_script_tag(path=SCRIPT)
    yield page
    context.close()


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
def test_chromium_talks_without_sticky_sessions(page: Page, transports: list[str]) -> None:
    """Join, chat, acknowledgement and bytes in a browser."""
    result = page.evaluate(TALK, {"transports": transports, "room": f"chromium {len(transports)} {transports[0]}"})
    assert result == {"names": [transports[-1]] * 2, "ack": {"ok": True}, "notice": True, "bytes": [1, 2, 255]}
