"""daphne's command line on uvloop: ``python -m realtime.server.daphne_on_uvloop config.asgi:application --port 8081``.

Daphne makes its event loop when it is imported, and takes a reactor that is there already; so this is the place to
choose another loop, and there is no later one.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run daphne with the arguments of its own command line."""
    try:
        import uvloop
    except ImportError:
        sys.exit("daphne_on_uvloop: uvloop is not installed; `daphne` itself does without")
    from twisted.internet import asyncioreactor

    asyncioreactor.install(uvloop.new_event_loop())  # type: ignore[no-untyped-call]

    from daphne.cli import CommandLineInterface

    sys.argv[0] = "daphne"
    CommandLineInterface.entrypoint()


if __name__ == "__main__":
    main()
