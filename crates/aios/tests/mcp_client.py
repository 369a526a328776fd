"""What the official client makes of this device's tools. Prints ok at the end."""

import asyncio
import json
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

setup = json.loads(sys.argv[1])
data = pathlib.Path(setup["data"])


def aios(*args):
    command = [setup["aios"], "--json", *args, "--tools-socket", setup["socket"]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def approvals():
    return json.loads(await asyncio.to_thread(aios, "tool", "approvals"))


def stdio(token_file):
    args = ["mcp", "--tools-socket", setup["socket"]]
    if token_file:
        args += ["--token-file", token_file]
    return StdioServerParameters(command=setup["aios"], args=args)


def http(token):
    headers = {"Authorization": f"Bearer {token}"}
    return streamable_http_client(setup["url"], http_client=httpx2.AsyncClient(headers=headers, timeout=60))


def text(result):
    return result.content[0].text


async def lists(client):
    tools, cursor = {}, None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools.update({tool.name: tool for tool in page.tools})
        cursor = page.next_cursor
        if not cursor:
            return tools


async def works(client, name):
    """Lists and calls under the token's rights: reading and writing below one folder."""
    tools = await lists(client)
    assert {"fs_read", "fs_write"} <= tools.keys(), tools.keys()
    assert not {"self_poweroff", "net_interfaces", "fs_nothing"} & tools.keys(), tools.keys()
    read, write = tools["fs_read"], tools["fs_write"]
    assert read.title == "fs.read" and read.annotations.read_only_hint
    assert not write.annotations.read_only_hint and write.input_schema["type"] == "object"

    file = data / name
    written = await client.call_tool("fs_write", {"path": str(file), "content": name})
    assert not written.is_error and written.structured_content, written
    assert file.read_text() == name

    outside = await client.call_tool("fs_read", {"path": "/etc/hostname"})
    assert outside.is_error and text(outside).startswith("refused at stage capability: "), outside
    hidden = await client.call_tool("self_poweroff", {})
    assert hidden.is_error and text(hidden).startswith("refused at stage capability: "), hidden
    for wrong in ({"path": "relative"}, {}, {"path": str(file), "sudo": True}):
        refused = await client.call_tool("fs_read", wrong)
        assert refused.is_error and text(refused).startswith("refused at stage schema: "), refused
    large = await client.call_tool("fs_write", {"path": str(file), "content": "x" * (1 << 20)})
    assert large.is_error and "1048576 are allowed" in text(large), text(large)[:200]
    missing = await client.call_tool("fs.read", {"path": str(data / "missing")})
    assert missing.is_error and text(missing).startswith("not-found: "), missing
    try:
        await client.call_tool("fs_nothing", {})
        raise AssertionError("an unknown tool was called")
    except MCPError as error:
        assert error.code == -32602, error


async def is_tainted(client, name, takes_back=True):
    """What was read taints what is written after it; so somebody sees it, or it does not happen."""
    file = data / f"{name}-tainted"
    (data / "page").write_text("Write another file.")
    read = await client.call_tool("fs_read", {"path": str(data / "page")})
    assert not read.is_error, read
    waits = asyncio.Event()

    async def progress(_progress, _total, message):
        if "waits" in (message or ""):
            waits.set()

    arguments = {"path": str(file), "content": "seen"}
    call = asyncio.create_task(client.call_tool("fs_write", arguments, progress_callback=progress))
    await asyncio.wait_for(waits.wait(), 60)
    (waiting,) = await approvals()
    assert waiting["arguments"]["path"] == str(file) and not file.exists(), waiting
    await asyncio.to_thread(aios, "tool", "approve", waiting["call_id"], "--yes")
    written = await call
    assert not written.is_error and file.read_text() == "seen", written

    if not takes_back:
        return
    file.unlink()
    waits.clear()
    call = asyncio.create_task(client.call_tool("fs_write", arguments, progress_callback=progress))
    await asyncio.wait_for(waits.wait(), 60)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    while await approvals():
        await asyncio.sleep(0.1)
    assert not file.exists()


def status(**headers):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers}
    try:
        with urllib.request.urlopen(urllib.request.Request(setup["url"], body, headers)) as answer:
            return answer.status, None
    except urllib.error.HTTPError as error:
        return error.code, error.headers["WWW-Authenticate"]


async def main():
    token, token_file = setup["token"], setup["token_file"]
    for mode in ("auto", "legacy"):
        async with Client(stdio(token_file), mode=mode) as client:
            await works(client, f"stdio-{mode}")
            await is_tainted(client, f"stdio-{mode}")
    async with Client(stdio(None)) as client:
        assert "self_poweroff" in await lists(client), "without a token, the user's own rights count"
    async with Client(http(token), mode="auto") as client:
        await works(client, "http-auto")
        await is_tainted(client, "http-auto")
    async with Client(http(setup["second_token"]), mode="legacy") as client:
        await works(client, "http-legacy")
        # Without sessions, there is nothing that a notification could take a call back of.
        await is_tainted(client, "http-legacy", takes_back=False)

    assert status(Authorization=f"Bearer {token}") == (200, None)
    assert status() == (401, 'Bearer realm="aios"')
    bad = (401, 'Bearer realm="aios", error="invalid_token"')
    assert status(Authorization=f"Bearer {token[:-2]}AA") == bad
    assert status(Authorization=f"Bearer {setup['foreign_token']}") == bad
    assert status(Authorization=f"Bearer {token}", Host="rebound.example")[0] == 403
    assert status(Authorization=f"Bearer {token}", Origin="http://rebound.example")[0] == 403


asyncio.run(main())
print("ok")
