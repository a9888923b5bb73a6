"""A stand-in for the Hugging Face Hub, on this machine, with its repositories in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HubServer(ThreadingHTTPServer):
    """Answers what huggingface_hub asks to make a repository, commit to it and read from it."""

    def __init__(self, *, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        # Files by repository, and whether a repository is private.
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit_of(self, repo: str) -> str:
        """40 hex digits that change with the files."""
        names = sorted(self.repos[repo].items())
        return hashlib.sha1(repr(names).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._answer({"error": "Invalid username or password."}, status=401)
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        if self.path == "/api/validate-yaml":
            return self._answer({"warnings": [], "errors": []})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
            files = json.loads(body)["files"]
            regular = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return self._answer({"files": [{"path": f["path"], **regular} for f in files]})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            return self._commit(found[1], body)
        return self._answer({"error": f"no {self.path}"}, status=404)

    def _create(self, asked: dict[str, object]) -> None:
        repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
        self.server.repos.setdefault(repo, {})
        private = asked.get("private") or asked.get("visibility") == "private"
        self.server.private.setdefault(repo, bool(private))
        self._answer({"url": f"{self.server.url}/{repo}", "id": repo, "name": repo})

    def _commit(self, repo: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repos[repo][line["value"]["path"]] = content
        commit = self.server.commit_of(repo)
        url = f"{self.server.url}/{repo}/commit/{commit}"
        self._answer({"commitUrl": url, "commitOid": commit, "success": True})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if found := re.fullmatch(
            r"/api/models/([^/]+/[^/?]+)(?:/revision/[^/?]+)?(?:\?.*)?", self.path
        ):
            return self._describe(found[1])
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path):
            content = self.server.repos.get(found[1], {}).get(found[2])
            if content is not None:
                commit = self.server.commit_of(found[1])
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                return self._send(content, {"ETag": etag, "X-Repo-Commit": commit})
        return self._answer({"error": "Entry not found"}, status=404, code="EntryNotFound")

    def _describe(self, repo: str) -> None:
        if repo not in self.server.repos:
            return self._answer({"error": "Repository not found"}, status=404, code="RepoNotFound")
        names = [{"rfilename": name} for name in self.server.repos[repo]]
        about = {"id": repo, "sha": self.server.commit_of(repo), "siblings": names}
        return self._answer({**about, "private": self.server.private[repo], "tags": []})

    def _answer(self, document: object, *, status: int = 200, code: str = "") -> None:
        headers = {"Content-Type": "application/json"} | ({"X-Error-Code": code} if code else {})
        self._send(json.dumps(document).encode(), headers, status=status)

    def _send(self, content: bytes, headers: dict[str, str], *, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
