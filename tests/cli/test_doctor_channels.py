"""`otelslo doctor`: channels that can be made or not, a test that arrives or not, notices that wait, time zones."""

from __future__ import annotations

import json
import logging
import os
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from channels.hook import hook

from otelslo import SLO, Engine, ManualClock
from otelslo.cli.doctor_channels import test_notice as notice_of_a_test
from otelslo.cli.doctor_zones import zones
from otelslo.notice import EVENTS, SEVERITIES, Notice

from .invoke import invoke
