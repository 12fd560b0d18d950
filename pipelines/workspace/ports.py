"""Free ports of this machine."""

import socket

from training.stage.errors import BadInput


def free_port(port: int = 0) -> int:
    """The TCP port, or for 0 a free one of the loopback interface. Raises BadInput where somebody listens on it."""
    with socket.socket() as probe:
        if port == 0:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise BadInput(f"port {port} is taken: stop what listens there, or name another port")
        return port
