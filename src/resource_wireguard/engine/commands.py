"""The agent's own commands: plan, info, stop and purge."""

import os
from typing import Any

from resource_wireguard import __version__
from resource_wireguard.engine import backup, recall
from resource_wireguard.engine.engine import Engine
from resource_wireguard.engine.feature import Command, Feature, Nothing
from resource_wireguard.host.render import lines_of


def plan(engine: Engine, _: Nothing) -> dict[str, Any]:
    """What a pass would do now."""
    report = engine.report()
    problems = [{"message": p.message, "hint": p.hint} for p in report.problems]
    return {"actions": lines_of(report.drift), "problems": problems}


def agent_info(engine: Engine, _: Nothing) -> dict[str, Any]:
    """Who is answering."""
    engine_kind = engine.last.observation.engine if engine.last else None
    return {"pid": os.getpid(), "version": __version__, "engine": engine_kind}


def agent_stop(engine: Engine, _: Nothing) -> dict[str, Any]:
    """Take all tunnels down; the agent ends when this is answered."""
    left = lines_of(engine.take_down().drift)
    return {"stopped": not left, "left": left}


def agent_purge(engine: Engine, _: Nothing) -> dict[str, Any]:
    """As stop, and what we changed in the kernel's settings is given back."""
    removed = engine.purge()
    return {"removed": removed, "left": lines_of(engine.last.drift) if engine.last else []}


def feature() -> Feature:
    """The engine's own words on the bus."""
    commands = (
        Command("plan", Nothing, plan),
        Command("agent.info", Nothing, agent_info),
        Command("agent.stop", Nothing, agent_stop),
        Command("agent.purge", Nothing, agent_purge),
        *recall.COMMANDS,
        *backup.COMMANDS,
    )
    return Feature("engine", commands=commands)
