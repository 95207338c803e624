"""A task of the Windows scheduler that runs at logon.

A task, not a service: services live in a session of their own, without the user's MIDI ports.
"""

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
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
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
      <Count>999</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{program}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


def define(command: Sequence[str], home: Path) -> Definition:
    """The task that runs `command`."""
    folder = home / "AppData" / "Local" / "jazzd"
    log, path = folder / "jazzd.log", folder / "jazzd.xml"
    arguments = subprocess.list2cmdline([*command[1:], "--log", str(log)])
    return Definition(
        "windows",
        path,
        TEXT.format(program=escape(command[0]), arguments=escape(arguments)),
        "utf-16",
        (
            ("schtasks", "/Create", "/F", "/TN", NAME, "/XML", str(path)),
            ("schtasks", "/Run", "/TN", NAME),
        ),
        (("schtasks", "/End", "/TN", NAME), ("schtasks", "/Delete", "/F", "/TN", NAME)),
        ("schtasks", "/Query", "/TN", NAME),
        f'Get-Content -Wait "{log}"',
    )
