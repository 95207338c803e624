"""A task of the Windows scheduler that runs at logon.

A task, not a service: services live in a session of their own, without the user's MIDI ports.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from jazzd.service.definition import Definition

NAME = "jazzd"
TEXT = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.3" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>jazzd, improvised solos over MIDI</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>{user}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowHardTerminate>true</AllowHardTerminate>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>4</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>255</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{program}</Command>
      <Arguments>{arguments}</Arguments>
      <WorkingDirectory>{folder}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""


def define(command: Sequence[str], home: Path, folder: Path) -> Definition:
    """The task that runs `command` in `folder` when this user logs on."""
    own = home / "AppData" / "Local" / "jazzd"
    log, path = own / "jazzd.log", own / "jazzd.xml"
    user = f"{os.environ.get('USERDOMAIN', '.')}\\{os.environ.get('USERNAME', home.name)}"
    arguments = subprocess.list2cmdline([*command[1:], "--log", str(log)])
    return Definition(
        "windows",
        path,
        TEXT.format(
            user=escape(user),
            program=escape(command[0]),
            arguments=escape(arguments),
            folder=escape(str(folder)),
        ),
        "utf-16",
        (
            ("schtasks", "/Create", "/F", "/TN", NAME, "/XML", str(path)),
            ("schtasks", "/Run", "/TN", NAME),
        ),
        (("schtasks", "/End", "/TN", NAME), ("schtasks", "/Delete", "/F", "/TN", NAME)),
        ("schtasks", "/Query", "/TN", NAME),
        f'Get-Content -Wait "{log}"',
    )
