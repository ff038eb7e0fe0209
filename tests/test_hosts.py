"""deploy/ansible on hosts made of network namespaces, each with an sshd: of five, two give a bundle, three are told.

It needs root, sshd and ansible-playbook (ansible-core, on PATH or in build/ansible), and says what is missing.
Everything happens in a network and a mount namespace of its own: nothing of this machine is touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hangdebug import fleet
from test_before_restart import STUCK

ROOT = Path(__file__).resolve().parent.parent
PLAYBOOK = ROOT / "deploy" / "ansible" / "playbooks" / "capture.yml"
HOSTS = ("web1", "web2", "web3", "web4", "web5")
# A host: a namespace, a link to it, an sshd in it. The fourth has no sshd, so nobody answers.
SCRIPT = """
set -e
mount -t tmpfs tmpfs /run; mkdir -p /run/sshd /run/netns; chmod 755 /run/sshd; ip link set lo up
n=0
for host in web1 web2 web3 web4 web5; do
    n=$((n + 1)); ip netns add $host
    ip link add to$n type veth peer name eth0 netns $host
    ip addr add 10.77.$n.1/24 dev to$n; ip link set to$n up
    ip -n $host addr add 10.77.$n.2/24 dev eth0; ip -n $host link set eth0 up; ip -n $host link set lo up
    [ $host = web4 ] || ip netns exec $host "$SSHD" -D -e -f sshd.conf 2>>sshd.log & echo $! >>pids
done
"$PYTHON" server.py 8001 & echo $! >hangs.pid
"$PYTHON" server.py 8002 & echo $! >idles.pid
trap 'kill $(cat pids *.pid) 2>/dev/null' EXIT
sleep 1.5
curl -s -m 200 http://127.0.0.1:8001/ & echo $! >>pids
cat >inventory.json <<END
{inventory}
END
sed -i "s/HANGS/$(cat hangs.pid)/; s/IDLES/$(cat idles.pid)/" inventory.json
"$ANSIBLE" -i inventory.json "$PLAYBOOK" -e hang_out="$PWD/fleet"
"""


def ansible() -> str:
    own = ROOT / "build" / "ansible" / "bin" / "ansible-playbook"
    return str(own) if own.exists() else shutil.which("ansible-playbook") or ""


@pytest.fixture
def lab(tmp_path):
    """Keys, programs, and an inventory in which each host has what is wrong with it."""
    missing = [name for name in ("sshd", "ssh-keygen", "ip", "unshare") if not shutil.which(name, path=PATH)]
    get = "python3 -m venv build/ansible && build/ansible/bin/pip install ansible-core"
    missing += [] if ansible() else [f"ansible-playbook: {get}"]
    if os.geteuid() or missing:
        pytest.skip(f"needs root, and {', '.join(missing)}")
    for key in ("host", "mine"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / key)], check=True)
    shutil.copy(tmp_path / "mine.pub", tmp_path / "authorized_keys")
    (tmp_path / "sshd.conf").write_text(
        f"Port 22\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized_keys\nStrictModes no\n"
        "PidFile none\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    (tmp_path / "server.py").write_text(STUCK)
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "py-spy").write_text('#!/bin/sh\n[ "$1" != dump ] || exec sleep 600\n')
    (tmp_path / "slow" / "py-spy").chmod(0o755)
    good = str(Path(sys.executable).parent)
    asks = {
        "web1": {"hang_pid": "HANGS", "hang_path": good, "hang_version": "1.5"},
        "web2": {"hang_pid": "IDLES", "hang_path": good, "hang_version": "1.4"},
        "web3": {"hang_pid": "HANGS"},
        "web4": {"hang_pid": "HANGS", "hang_path": good},
        "web5": {"hang_pid": "HANGS", "hang_path": str(tmp_path / "slow"), "hang_seconds": 3},
    }
    ssh = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=3"
    every = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(tmp_path / "mine"),
        "ansible_ssh_common_args": ssh,
        "ansible_python_interpreter": "/usr/bin/python3",
        "hang_usual_path": "/usr/bin:/bin",
        "hang_command": [sys.executable, str(ROOT / "scripts" / "hang.py")],
    }
    found = {host: {"ansible_host": f"10.77.{n}.2", **asks[host]} for n, host in enumerate(HOSTS, 1)}
    (tmp_path / "script.sh").write_text(
        SCRIPT.replace("{inventory}", json.dumps({"all": {"vars": every, "hosts": found}}, indent=1))
    )
    return tmp_path


PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


@pytest.mark.live
def test_the_playbook_brings_a_bundle_of_each_host_that_has_one_and_tells_of_the_others(lab):
    more = {"ANSIBLE": ansible(), "PLAYBOOK": str(PLAYBOOK), "PYTHON": sys.executable, "HOME": str(lab)}
    own = {
        "PATH": PATH,
        "SSHD": shutil.which("sshd", path=PATH),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "no_proxy": "127.0.0.1",
    }
    command = ["unshare", "--net", "--mount", "sh", str(lab / "script.sh")]
    done = subprocess.run(command, cwd=lab, env={**os.environ, **own, **more}, capture_output=True, text=True)
    said = done.stdout + done.stderr
    rows = fleet.read(fleet.places([str(lab / "fleet")]), lambda done, of: None, jobs=1).rows
    assert {row.host: (row.state, row.version) for row in rows} == {
        "web1": ("sync-worker-blocked", "1.5"),
        "web2": ("healthy", "1.4"),
    }, said
    assert re.search(r"web3: Capture it: .*py-spy is not on PATH", said)
    assert re.search(r"fatal: \[web4\]: UNREACHABLE!", said)
    assert re.search(r"web5: Capture it: ", said)
    (missing,) = re.findall(r"Which hosts have no bundle.*?(\[[^\]]*web[^\]]*\])", said, re.S)
    assert json.loads(missing) == ["web3", "web4", "web5"]
    assert re.search(r"sync-worker-blocked / \w+ in wait_for_nothing", said)
    assert not list(Path("/tmp").glob("hang-*/capture.sh"))
