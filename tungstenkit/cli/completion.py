r"""`tungsten completion`: what a shell completes a line by, printed as its own script.

The script has every command and option in it, so that no Python starts at a key press, and no module of a model's is
read. What it offers is found by one program for `sh`, the same for all three shells; each has a few lines that ask
it. What lies on the disk or in an engine is offered as text, which a shell quotes as it does names of files: no name
of a folder, image or package is ever run.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Shell(StrEnum):
    """A shell that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion_command(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell that you use.")],
) -> None:
    """Print what has a shell complete the line.

    Commands, options, models' folders, images and packages. For bash and zsh: eval "$(tungsten completion bash)" in
    ~/.bashrc, or zsh in ~/.zshrc. For fish: tungsten completion fish > ~/.config/fish/completions/tungsten.fish.
    """
    print(script(shell, context.find_root().command))


def script(shell: Shell, commands: Any) -> str:  # noqa: ANN401 (click's own, or typer's)
    """What a shell reads. commands: the whole command line."""
    import shlex

    words = _PROGRAM.replace("@TABLE@", "\n".join(_table(commands)))
    # fish knows two escapes between single quotes, and they are others than sh's.
    for_fish = words.replace("\\", "\\\\").replace("'", "\\'")
    quoted = f"'{for_fish}'" if shell == Shell.FISH else shlex.quote(words)
    return _SHELLS[shell].replace("@WORDS@", quoted).strip()


_OFFERED = {
    "DIR": "folders",
    "NAME|DIR": "models",
    "DIR|NAME": "models",
    "DIR|NAME…": "models",
    "NAME|DIR|URL": "models",
    "NAME": "packages",
    "bash|zsh|fish": f"words {' '.join(Shell)}",
}
"""What is offered for an argument, by what its help calls it: a function of the program's."""


def _table(commands: Any) -> Iterator[str]:  # noqa: ANN401
    """The functions of the program that know the command line."""
    from tungstenkit.platforms import ARCHITECTURES
    from tungstenkit.project.template import templates

    of_options = {
        "platform": f"words {' '.join(ARCHITECTURES)}",
        "platforms": f"words {' '.join(ARCHITECTURES)}",
        "template": f"words {' '.join(templates())}",
    }
    every = {name: one for name, one in commands.commands.items() if not one.hidden}
    for name, one in list(every.items()):
        every |= {f"{name} {inner}": below for inner, below in getattr(one, "commands", {}).items()}
    groups = {name: one.commands for name, one in every.items() if hasattr(one, "commands")}
    yield from _function("commands_of", [('""', f"words {' '.join(sorted(commands.commands))}")])
    yield from _function(
        "group", [(f'"{name} {inner}"', "true") for name, below in groups.items() for inner in below]
    )
    options, valued, offered = [('""', "words --help --version")], [], []
    for name, one in every.items():
        plain = ["--help"]
        place = 0
        for param in one.params:
            if param.param_type_name == "argument":
                at = "*" if param.nargs < 0 else place
                if (what := _OFFERED.get(param.metavar)) is not None:
                    offered.append((f'"{name} "{at}', what))
                place += 1
                continue
            plain += [text for text in (*param.opts, *param.secondary_opts) if text.startswith("--")]
            if not param.is_flag:
                what = of_options.get(param.name, "true")
                valued += [(f'"{name} {text}"', what) for text in param.opts]
        if name in groups:
            offered.append((f'"{name} "0', f"words {' '.join(groups[name])}"))
        options.append((f'"{name}"', f"words {' '.join(sorted(set(plain)))}"))
    yield from _function("options", options)
    yield from _function("value", valued)
    yield from _function("argument", offered)


def _function(name: str, cases: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"{name}() {{"
    yield '    case "$1" in'
    yield from (f"    {pattern}) {what} ;;" for pattern, what in cases)
    yield "    *) return 1 ;;"
    yield "    esac"
    yield "}"


_PROGRAM = r"""
# What may follow: the words of a line after `tungsten`, of which the last is being typed. The first line is what they
# are, `words` or `paths`; none where a shell knows as well.
@TABLE@
offer() {
    while IFS= read -r word; do
        case $word in "$typed"*) printf "%s\n" "$word" ;; esac
    done
}
words() {
    echo words
    [ $# -eq 0 ] || printf "%s\n" "$@" | offer
}
folders() {
    found=
    for path in "$typed"*/; do
        for file in "$path"tungsten_model.py "$path"*/tungsten_model.py; do
            [ -f "$file" ] || continue
            [ -n "$found" ] || echo paths
            found=yes
            [ "$file" = "$path"tungsten_model.py ] && path=${path%/}
            printf "%s\n" "$path"
            break
        done
    done
    [ -n "$found" ]
}
images() {
    for engine in podman docker; do
        case $TUNGSTEN_ENGINE in "" | "$engine") ;; *) continue ;; esac
        command -v "$engine" >/dev/null || continue
        named=$("$engine" image ls --filter=label=mem_gb --filter=label=device \
            --format "{{.Repository}}:{{.Tag}}" 2>/dev/null) || continue
        printf "%s\n" "$named" | grep "^[a-z0-9][A-Za-z0-9._/:-]*$" | {
            case $typed in localhost*) cat ;; *) sed "s,^localhost/,," ;; esac
        } | offer
        break
    done
}
models() {
    folders && return
    echo words
    images
}
packages() {
    echo words
    sed -n -e "s/^ *\"name\": \"\([A-Za-z0-9][A-Za-z0-9._+-]*\)\",*$/\1/p" \
        -e "s/^ *\"project\": \"\([A-Za-z0-9][A-Za-z0-9._+-]*\)\",*$/\1/p" tungsten.lock 2>/dev/null | sort -u | offer
}
command= place=0 before= only=
while [ $# -gt 1 ]; do
    if [ -n "$before" ]; then
        before=
    elif [ -z "$command" ]; then
        case $1 in -*) ;; *) command=$1 ;; esac
    elif [ -z "$only" ] && [ "$1" = -- ]; then
        only=yes
    else
        case $only$1 in
        -*) value "$command $1" >/dev/null && before=$1 ;;
        *) if [ $place = 0 ] && group "$command $1"; then command="$command $1"; else place=$((place + 1)); fi ;;
        esac
    fi
    shift
done
typed=$1
if [ -n "$before" ]; then
    value "$command $before"
    exit
fi
case $only$typed in
-*) options "$command" ;;
*) if [ -z "$command" ]; then commands_of ""; else argument "$command $place"; fi ;;
esac
"""

_BASH = r"""
_tungsten_words=@WORDS@
_tungsten() {
    local word line kind cut before=
    local -a typed=()
    # bash takes a line apart at `:` and `=`, too.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ ${#typed[@]} -gt 0 && ( $word == [:=]* || $before == *[:=] ) ]]; then
            typed[${#typed[@]}-1]+=${word//\\/}
        else
            typed+=("${word//\\/}")
        fi
        before=$word
    done
    word=${typed[${#typed[@]}-1]}
    cut=
    [[ $word == *[:=]* && $COMP_WORDBREAKS == *:* ]] && cut=${word%"${word##*[:=]}"}
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=$line
        elif [[ -n $line ]]; then
            COMPREPLY+=("${line#"$cut"}")
        fi
    done < <(sh -c "$_tungsten_words" tungsten "${typed[@]}")
    # It quotes what are names of files, and those alone.
    if [[ $kind == paths ]]; then
        compopt -o filenames
        [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
    elif [[ $kind == words ]]; then
        compopt +o default
    fi
}
complete -o default -F _tungsten tungsten
"""

_ZSH = r"""
#compdef tungsten
_tungsten_words=@WORDS@
_tungsten() {
    local kind one
    local -a found
    found=("${(@f)$(sh -c "$_tungsten_words" tungsten "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")}")
    kind=$found[1]
    shift found
    case $kind in
    words) compadd -- $found ;;
    paths)
        for one in $found; do
            if [[ $one == */ ]]; then compadd -S '' -f -- $one; else compadd -f -- $one; fi
        done
        ;;
    *) _files ;;
    esac
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _tungsten tungsten
"""

_FISH = r"""
set -g __tungsten_words @WORDS@
function __tungsten_complete
    set -l words (commandline -opc)
    set -l found (sh -c $__tungsten_words tungsten $words[2..-1] (commandline -ct))
    if test (count $found) -gt 0
        printf '%s\n' $found[2..-1]
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c tungsten -f -a '(__tungsten_complete)'
"""

_SHELLS = {Shell.BASH: _BASH, Shell.ZSH: _ZSH, Shell.FISH: _FISH}
