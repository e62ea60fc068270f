# Completion of cofferctl(1) for bash: asks the program itself, which knows what may be typed.
# Printed by "cofferctl completion bash".
_cofferctl() {
    local lines
    COMPREPLY=()
    mapfile -t lines < <("${COMP_WORDS[0]/#\~/$HOME}" completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2> /dev/null)
    case ${lines[0]} in
        files) compopt -o default ;;
        directories) compopt -o dirnames ;;
        words) COMPREPLY=("${lines[@]:1}") ;;
    esac
}
complete -F _cofferctl cofferctl
