"""Writes the script with which a shell completes `actor-mimic`, its commands and their options.

The options are read off the commands' own help, so that there is no second list of them.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Mapping, Sequence

_OPTION = re.compile(r"^\W*(?:-h, )?(--[a-z][\w.-]*)", re.MULTILINE)
"""An option at the start of a line, in the boxes; examples above them name others too."""
_ZSH = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"
_SCRIPT = """\
_actor_mimic() {{
    local words=""
    if [ "$COMP_CWORD" = 1 ]; then words="{names}"; fi
    case "${{COMP_WORDS[1]}}:$COMP_CWORD" in
        *:1) ;;
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _actor_mimic actor-mimic"""


def completion_script(words: Sequence[str], commands: Sequence[str], lists: Sequence[str]) -> str:
    """The script for the shell that `words` names; ValueError if it is none of those known."""
    if list(words) not in (["bash"], ["zsh"]):
        raise ValueError("name the shell: actor-mimic completion bash, or zsh")
    cases = "\n".join(
        f'        {name}:*) words="{" ".join(options)}" ;;'
        for name, options in _options_of(commands).items()
    )
    script = _SCRIPT.format(names=" ".join([*commands, *lists, "completion"]), cases=cases)
    return (_ZSH if words[0] == "zsh" else "") + script


def _options_of(commands: Sequence[str]) -> Mapping[str, Sequence[str]]:
    found = {}
    for name in commands:
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            importlib.import_module(f"launch.{name}").main(["--help"])
        found[name] = sorted(set(_OPTION.findall(text.getvalue())))
    return found
