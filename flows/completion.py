"""Completion for bash: commands, options, the recipes that ship, and every key with its choices.

All words stand in the script that ``scoreinv completion bash`` prints, as asking the program at every press of Tab
would take seconds. Keys are completed part by part, as folders are.
"""

import argparse
from functools import partial

from scoreinv.spec import Spec

WHERE = "${BASH_COMPLETION_USER_DIR:-~/.local/share/bash-completion}/completions/scoreinv"

SCRIPT = """\
# Completion of the command scoreinv for bash.
_scoreinv_keys() {
    case $1 in
%(keys)s
    esac
}

_scoreinv_options() {
    case $1 in
%(options)s
    esac
}

# Those of the lines that begin as $1, up to their next point; the number of a list's item may be any.
_scoreinv_next() {
    local typed=$1 template line rest
    template=$(sed -E 's/\\.[0-9]+\\./.0./g' <<< "$typed")
    while IFS= read -r line; do
        [[ $line == "$template"* && ( $line != "$template" || $typed != *=* ) ]] || continue
        rest=${line#"$template"}
        [[ $typed != *=* && ${rest%%%%=*} == *.* ]] && rest=${rest%%%%.*}.
        [[ $typed != *=* && $rest == *=* ]] && rest=${rest%%%%=*}=
        printf '%%s\\n' "$typed$rest"
    done | sort -u
}

_scoreinv() {
    local typed=${COMP_LINE:0:COMP_POINT} command= word replies=()
    typed=${typed##* }
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $word == -* ]] || { command=$word; break; }
    done
    if [[ -z $command ]]; then
        mapfile -t replies < <(compgen -W '%(commands)s --help --version' -- "$typed")
    elif [[ $typed == -* ]]; then
        mapfile -t replies < <(compgen -W "$(_scoreinv_options "$command")" -- "$typed")
    elif [[ ${COMP_WORDS[COMP_CWORD-1]} == --device ]]; then
        mapfile -t replies < <(compgen -W 'auto cpu cuda' -- "$typed")
    elif [[ $command == completion ]]; then
        mapfile -t replies < <(compgen -W 'bash' -- "$typed")
    elif [[ $typed == *path=* || $typed == *output=* ]]; then
        compopt -o filenames
        mapfile -t replies < <(compgen -P "${typed%%%%=*}=" -f -- "${typed#*=}")
    elif [[ ${COMP_WORDS[COMP_CWORD-1]} == --workspace ]]; then
        compopt -o filenames
        mapfile -t replies < <(compgen -d -- "$typed")
    elif [[ ' %(stages)s ' == *" $command "* ]]; then
        mapfile -t replies < <(_scoreinv_keys "$command" | _scoreinv_next "$typed")
        if [[ $typed != *=* && $command != demo ]]; then
            mapfile -t -O "${#replies[@]}" replies < <(
                compgen -W '%(recipes)s' -- "$typed"; compgen -f -X '!*.y*ml' -- "$typed"; compgen -d -S / -- "$typed")
        fi
    fi
    [[ ${#replies[@]} -gt 1 || ${replies[0]} == *[=./] ]] && compopt -o nospace
    # Readline takes what follows the last = or : for the whole word.
    local before=${typed%%"${typed##*[=:]}"}
    COMPREPLY=("${replies[@]#"$before"}")
}

complete -F _scoreinv scoreinv
"""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command that prints the script."""
    text = "the script by which a shell completes commands, recipes and keys"
    epilog = f"Keep it where bash looks for it: scoreinv completion bash > {WHERE}"
    parser = commands.add_parser("completion", help=text, description=f"{text.capitalize()}.", epilog=epilog)
    parser.add_argument("shell", choices=["bash"], help="for which shell")
    parser.set_defaults(run=partial(_run, commands))


def _run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", _: argparse.Namespace) -> int:
    print(bash_script(commands.choices), end="")
    return 0


def bash_script(parsers: "dict[str, argparse.ArgumentParser]") -> str:
    """The script, from the parser of every command."""
    from flows.recipe_files import shipped_recipes
    from flows.stage_commands import TEXTS, recipe_kind

    stages: dict[str, list[str]] = {}
    for name in TEXTS:
        stages.setdefault("\n".join(_words_of(recipe_kind(name))), []).append(name)
    keys = [f"        {'|'.join(names)}) cat <<'KEYS'\n{words}\nKEYS\n        ;;" for words, names in stages.items()]
    options = [f"        {name}) echo '{' '.join(_options(parser))}' ;;" for name, parser in parsers.items()]
    return SCRIPT % {
        "keys": "\n".join(keys),
        "options": "\n".join(options),
        "commands": " ".join(parsers),
        "stages": " ".join(TEXTS),
        "recipes": " ".join(shipped_recipes()),
    }


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [text for action in parser._actions for text in action.option_strings if text.startswith("--")]


def _words_of(kind: type[Spec]) -> list[str]:
    """Every key with "=" behind it, and with each of its choices; of what holds keys, these alone."""
    from flows.keys import key_rows
    from storage.models import shipped
    from tasks.running.shards import Execution

    rows = [*key_rows(kind), *key_rows(Execution, "execution.")]
    holders = {key.rpartition(".")[0].removesuffix(".0") for key, *_ in rows}
    words = set()
    for key, values, *_ in rows:
        if "=" in key:
            words.add(key)
        elif key not in holders:
            choices = ["true", "false"] if values == "boolean" else values.split(" | ") if " | " in values else []
            choices += shipped() if key.rpartition(".")[2] == "prior" else []
            words.update(f"{key}={choice}" for choice in ["", *choices])
    return sorted(words)
