#!/usr/bin/env bash
# completion.sh BUILD bash|zsh|fish: what the installed completion makes of a Tab in that shell. bash and zsh run on a terminal
# and are typed into; fish says what it would offer. Exit status 77 where there is no such shell: skipped.
set -euo pipefail

build=$(cd "${1:?usage: completion.sh BUILD bash|zsh|fish}" && pwd)
shell=${2:?usage: completion.sh BUILD bash|zsh|fish}
tests=$(cd "$(dirname "$0")" && pwd)
command -v "$shell" >/dev/null || { echo "completion: there is no $shell here"; exit 77; }
folder=$(mktemp -d "${TMPDIR:-/tmp}/tamis-completion-XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"

cmake --install "$build" --prefix "$folder/prefix" >log
share=$folder/prefix/share
export PATH=$folder/prefix/bin:$PATH HOME=$folder TERM=dumb
mkdir here 'here/a case'
cd here
printf 'name: x\n' >model.yaml
tamis gen qwen3-8b -o 'my store.tamis' --no-compile --defaults-only --arch sm_80 -q >../log
touch notes.txt config.json

# "typed|becomes": what is the only one of its kind stands whole, with a blank behind; what nothing fits stays.
cat >../cases <<'CASES'
tamis ge|tamis gen 
tamis spec im|tamis spec import 
tamis help bench op|tamis help bench operator 
tamis gen qw|tamis gen qwen3-8b 
tamis gen llama-3.1-8b mo|tamis gen llama-3.1-8b model.yaml 
tamis gen llama-3.1-8b --defaults|tamis gen llama-3.1-8b --defaults-only 
tamis gen x --arch sm_9|tamis gen x --arch sm_90a 
tamis gen x --arch sm_80,sm_9|tamis gen x --arch sm_80,sm_90a 
tamis gen x --arch=sm_9|tamis gen x --arch=sm_90a 
tamis gen x --arch=sm_80,sm_9|tamis gen x --arch=sm_80,sm_90a 
tamis tune x --rigor n|tamis tune x --rigor normal 
tamis doctor --color=al|tamis doctor --color=always 
tamis run --device cu|tamis run --device cuda:0 
tamis run --device cuda:|tamis run --device cuda:0 
tamis run --input a|tamis run --input a\ case/
tamis run --input=a|tamis run --input=a\ case/
tamis cache ls m|tamis cache ls my\ store.tamis 
tamis run --store=m|tamis run --store=my\ store.tamis 
tamis spec import c|tamis spec import config.json 
tamis show x --arch sm_7|tamis show x --arch sm_7
tamis frobnicate g|tamis frobnicate g
CASES

type_into() { # SHELL...: the cases, typed; `setup` is what the shell reads first
    cut -d'|' -f1 ../cases | timeout 100 python3 "$tests/completion.py" setup "$@" >../became
    cut -d'|' -f2 ../cases | sed 's/$/|/' >../wanted
    cut -d'|' -f1 ../cases | paste -d'>' - ../became
    diff ../wanted ../became
}

in_bash() {
    cat >setup <<SETUP
. '$share/bash-completion/completions/tamis'
write_line() { printf '%s\n' "\$READLINE_LINE" >line.new && mv line.new line; }
bind -x '"\C-t": write_line'
: >ready
SETUP
    type_into bash --norc --noprofile -i
}

in_zsh() {
    cat >setup <<SETUP
fpath=('$share/zsh/site-functions' \$fpath)
autoload -Uz compinit && compinit -u -D
write_line() { print -r -- "\$BUFFER" >line.new && mv line.new line }
zle -N write_line && bindkey '^T' write_line
: >ready
SETUP
    type_into zsh -f -i
}

# All that is offered, a candidate a line, is what the line's last word becomes.
in_fish() {
    local typed becomes lead
    while IFS='|' read -r typed becomes; do
        fish --no-config -c "source $share/fish/vendor_completions.d/tamis.fish; complete -C '$typed'" >../offered
        lead=${typed% *}
        [ "$becomes" != "$typed" ] || becomes=
        printf '%s\n' "${becomes#"$lead "}" | sed -e 's/\\//g' -e 's/ $//' -e '/^$/d' >../wanted
        echo "$typed > $(cut -f1 ../offered | tr '\n' ' ')"
        cut -f1 ../offered | diff ../wanted -
    done <../cases
}

"in_$shell"
echo "completion: $shell, $(wc -l <../cases) lines"
