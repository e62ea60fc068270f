# Completion of cofferdam(1) for fish: asks the program itself, which knows what may be typed.
# Printed by "cofferdam completion fish".
function __cofferdam_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --cut-at-cursor --current-token)
    set -l lines ($words[1] completion fish -- $words[2..] "$current" 2>/dev/null)
    set -l kind $lines[1]
    set -e lines[1]
    # Behind a flag and its equals sign the path begins.
    set -l before (string match --regex -- '^-[^=]*=' "$current"; or echo '')
    set -l path (string replace --regex -- '^-[^=]*=' '' "$current")
    switch "$kind"
        case files
            printf '%s\n' $before(__fish_complete_path "$path")
        case directories
            printf '%s\n' $before(__fish_complete_directories "$path")
        case words
            printf '%s\n' $lines
    end
end
complete --command cofferdam --no-files --arguments '(__cofferdam_complete)'
