"""What systemd does for a service, in little: keeps its sockets, restarts it, hears what it says.

supervisor.py SOCKET PAUSE COMMAND...  prints "started PID", "said MESSAGE", "ended". Between an end and
the next start it waits for PAUSE seconds. On SIGTERM it stops the service and goes.
"""
import os
import signal
import socket
import sys
import threading
import time

path, pause, command = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
listener.listen(64)
inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
inbox.bind(path + ".notify")
stopping = False
child = 0


def hear():
    while True:
        # The descriptors that come with a barrier are closed by not being taken.
        for line in inbox.recv(4096).decode().splitlines():
            print("said", line, flush=True)


def stop(*_):
    global stopping
    stopping = True
    os.kill(child, signal.SIGTERM)


threading.Thread(target=hear, daemon=True).start()
signal.signal(signal.SIGTERM, stop)
while not stopping:
    child = os.fork()
    if child == 0:
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        environment = dict(os.environ)
        environment.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        environment.update(NOTIFY_SOCKET=path + ".notify", WATCHDOG_USEC="1000000")
        os.execve(command[0], command, environment)
    print("started", child, flush=True)
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)
    if not stopping:
        time.sleep(pause)
