"""Shows the built book on this machine, and to this machine only."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bnkit.book.layout import PressError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def serve(html: Path, port: int) -> None:
    """Serve the folder `html` on localhost until interrupted."""
    if not (html / "index.html").is_file():
        raise PressError("there is no book to show yet; build it: make book")
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=str(html)))
    except OSError as error:
        raise PressError(
            f"port {port} cannot be used ({error.strerror}); take another: make serve PORT=8001"
        ) from error
    with server:
        print(f"the book is at http://localhost:{server.server_port}/ (Ctrl-C stops)", flush=True)
        server.serve_forever()
