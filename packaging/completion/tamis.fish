# tamis.fish: completion for fish. The tool itself says what fits (tamis complete WORD...); this asks it.
# Installed where fish looks (vendor_completions.d).

function __tamis_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    command --query -- $words[1]; or return
    set -l typed (commandline --current-token --cut-at-cursor)
    for line in ($words[1] complete $words[2..] "$typed" 2>/dev/null)
        switch $line
            case ':folders'
                set -l lead (string match --regex -- '^--[^=]*=' "$typed")
                __fish_complete_directories (string replace -- "$lead" '' "$typed") '' | string replace --regex -- '^' "$lead"
            case ':files*'
                # fish offers other files too, behind those of the suffix
                set -l suffix (string replace --regex -- '^:files ?' '' $line)
                set -l ending (string escape --style=regex -- "$suffix")
                __fish_complete_suffix "$suffix" | string match --regex -- ".*(?:$ending|/)(?:\t.*)?\$"
            case '*'
                echo $line
        end
    end
end

complete --command tamis --no-files --arguments '(__tamis_complete)'
