"""What a task finds and leaves: files below /home/emma, pages, services of the web, a mail server. All of it is in a
namespace of its own, and nothing leaves it."""

import functools
import json
import os
import shutil
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from agentdojo.agent_pipeline.tool_execution import tool_result_to_str

HOME = "/home/emma"
MAIL_CONFIGURATION = "/var/lib/aios/config/secrets/smtp.toml"
HOSTS = (
    "bank.example chat.example drive.example travel.example evil.example mail.example www.awesome-news.com "
    "www.company-todo-list.com www.dora-website.com www.eve-blog.com www.informations.com www.restaurant-zurich.com "
    "www.true-informations.com www.our-company.com www.my-website-234.com www.secure-systems-252.com"
).split()


class World:
    """The things of one case after another."""

    def __init__(self):
        self.environment, self.runtime = None, None
        self.pages = {}
        self.sent, self.posted = [], []
        # What the mail server says in place of "250 done" when it has taken a mail.
        self.mail_answer = None
        os.makedirs(os.path.dirname(MAIL_CONFIGURATION), mode=0o700, exist_ok=True)
        web = ThreadingHTTPServer(("127.0.0.1", 80), _handler(self))
        mail = _Mail(("127.0.0.1", 0), _mailer(self))
        with open(MAIL_CONFIGURATION, "w", encoding="utf-8") as file:
            file.write(
                f'server = "localhost"\nport = {mail.server_address[1]}\nfrom = "emma@aios.example"\n'
                'encryption = "none"\n'
            )
        for server in (web, mail):
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def begin(self, environment, runtime):
        """Lays out an environment."""
        self.environment, self.runtime = environment, runtime
        self.sent.clear()
        self.posted.clear()
        self.pages.clear()
        shutil.rmtree(HOME, ignore_errors=True)
        for name in ("mail", "calendar", "drive", "documents"):
            os.makedirs(f"{HOME}/{name}")
        self.settle()

    def settle(self):
        """Makes the files what the environment says."""
        wanted = files(self.environment)
        for folder, _, names in os.walk(HOME):
            for name in names:
                if f"{folder}/{name}" not in wanted:
                    os.remove(f"{folder}/{name}")
        for path, text in wanted.items():
            if not os.path.exists(path) or contents(path) != text:
                with open(path, "w", encoding="utf-8", newline="") as file:
                    file.write(text)

    def done(self, call):
        """The function's effect on the environment, once the tools have really done it."""
        self.runtime.run_function(self.environment, call.function, dict(call.args))
        self.settle()

    def page(self, host, path, query):
        """What a GET returns."""
        if host + path in self.pages:
            return self.pages[host + path]
        state = self.environment.model_copy(deep=True)
        function = path.strip("/")
        if function in self.runtime.functions and host.endswith(".example"):
            arguments = {name: json.loads(value) for name, value in parse_qsl(query)}
            return tool_result_to_str(self.runtime.run_function(state, function, arguments)[0])
        url = (host + path).rstrip("/")
        return str(self.runtime.run_function(state, "get_webpage", {"url": url})[0])


def contents(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def written(thing):
    """A mail, an event or a user as text, as AgentDojo shows it to models."""
    return _written(type(thing), thing.model_dump_json())


@functools.lru_cache(maxsize=4096)
def _written(kind, text):
    return tool_result_to_str(kind.model_validate_json(text))


def files(environment):
    """The files of an environment, with their contents."""
    found = {}
    if hasattr(environment, "inbox"):
        inbox = environment.inbox
        found |= {f"{HOME}/mail/{key}.eml": written(mail) for key, mail in inbox.emails.items()}
        found[f"{HOME}/contacts"] = "".join(f"{one.name} <{one.email}>\n" for one in inbox.contact_list)
    if hasattr(environment, "calendar"):
        events = environment.calendar.events.items()
        found |= {f"{HOME}/calendar/{key}.yaml": written(event) for key, event in events}
    if hasattr(environment, "cloud_drive"):
        drive = environment.cloud_drive.files.values()
        found |= {f"{HOME}/drive/{file.filename}": f"id: {file.id_}\n{file.content}" for file in drive}
    if hasattr(environment, "filesystem"):
        found |= {f"{HOME}/documents/{name}": text for name, text in environment.filesystem.files.items()}
    if hasattr(environment, "user"):
        found[f"{HOME}/profile"] = written(environment.user)
    return found


def _handler(world):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            address = urlsplit(self.path)
            self._answer(world.page(self.headers["Host"].split(":")[0], address.path, address.query))

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            world.posted.append((self.headers["Host"], self.path, body))
            self._answer("done")

        def _answer(self, text):
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


class _Mail(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def _mailer(world):
    class Mailer(socketserver.StreamRequestHandler):
        """As much of SMTP as a client of its own needs."""

        def handle(self):
            self._say("220 mail.example")
            recipients = []
            while line := self.rfile.readline().decode(errors="replace").strip():
                verb = line.upper()
                if verb.startswith("RCPT TO:"):
                    recipients.append(line[8:].split(">")[0].strip("< "))
                if verb == "DATA":
                    self._say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    world.sent.append((recipients, b"".join(lines)))
                    recipients = []
                    self._say(world.mail_answer or "250 done")
                    continue
                self._say("250-mail.example\r\n250 8BITMIME" if verb.startswith("EHLO") else "250 done")
                if verb == "QUIT":
                    return

        def _say(self, text):
            self.wfile.write(text.encode() + b"\r\n")

    return Mailer
