# SPDX-License-Identifier: Apache-2.0
# Completion of lamella for fish. Load it with:  lamella completion fish | source

function __lamella_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l option (string match -r -- '^--[^=]*=' "$current")
    set -l value (string replace -r -- '^--[^=]*=' '' "$current")
    for line in ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
        switch $line
            case :files
                printf '%s\n' "$option"(__fish_complete_path "$value")
            case :folders
                printf '%s\n' "$option"(__fish_complete_directories "$value")
            case '*'
                test -n "$line"; and echo $line
        end
    end
end
complete -c lamella -f -a '(__lamella_complete)'
