# tamis.bash: completion for bash 4.4 and newer. The tool itself says what fits (tamis complete WORD...); this asks it.
# Installed where the bash-completion package looks; without that package: . tamis.bash

# The words up to the cursor, into `words`. What bash cut at = or : is one word again.
_tamis_words() {
    local rest=${COMP_LINE:0:COMP_POINT} word text i
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        text=${rest#"${rest%%[![:space:]]*}"} # without the blanks before it
        ((i < COMP_CWORD)) || word=$text
        if ((i > 0)) && [[ -n $word && $text == "$rest" ]]; then words[-1]+=$word; else words+=("$word"); fi
        rest=${text#"$word"}
    done
}

_tamis() {
    local IFS=$' \t\n' words candidate typed cut suffix
    local tool=${1/#\~\//"$HOME"/}
    _tamis_words
    # What readline replaces is what bash holds to be the last word; candidates are given from there on.
    typed=${words[-1]}
    cut=${typed%"${typed##*[=:]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r candidate _; do
        case $candidate in
            :files*)
                suffix=${candidate#:files}
                suffix=${suffix# }
                compopt -o filenames
                mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(
                    compgen -f -X "!*$suffix" -- "${typed#--*=}"
                    [[ -z $suffix ]] || compgen -d -- "${typed#--*=}"
                )
                ;;
            :folders)
                compopt -o filenames
                mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- "${typed#--*=}")
                ;;
            *) COMPREPLY+=("${candidate#"$cut"}") ;;
        esac
    done < <("$tool" complete "${words[@]:1}" 2>/dev/null)
}

complete -F _tamis tamis
