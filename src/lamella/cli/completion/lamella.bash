# SPDX-License-Identifier: Apache-2.0
# Completion of lamella for bash. Load it with:  source <(lamella completion bash)

_lamella() {
    local line=${COMP_LINE:0:COMP_POINT} program=${COMP_WORDS[0]/#\~/$HOME}
    local current=${COMP_WORDS[COMP_CWORD]} word candidate extra=
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[-1]}
    COMPREPLY=()
    # bash takes ":" and "=" for ends of words, and replaces only what follows the last of them.
    local cut=
    if [[ $COMP_WORDBREAKS == *:* && $word == *:* ]]; then cut=${word%"${word##*:}"}; fi
    if [[ $COMP_WORDBREAKS == *=* && ${word#"$cut"} == *=* ]]; then cut=${word%"${word##*=}"}; fi
    while IFS=$'\t' read -r candidate _; do
        case $candidate in
            "") ;;
            :files) extra=file ;;
            :folders) extra=directory ;;
            *) COMPREPLY+=("${candidate#"$cut"}") ;;
        esac
    done < <("$program" __complete "${words[@]:1}" 2>/dev/null)
    if [[ -n $extra ]]; then
        [[ $current == [:=] ]] && current=
        compopt -o filenames 2>/dev/null
        while IFS= read -r candidate; do
            COMPREPLY+=("$candidate")
        done < <(compgen -A "$extra" -- "$current")
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _lamella lamella
