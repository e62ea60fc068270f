# Shows a container from within. It runs in whatever root file system there is: the shell, its own words and /proc
# must do. The arguments are the host's namespaces, as links read.

row() { printf '  %-14s %s\n' "$1" "$2"; }
title() { printf '\n%s\n' "$1"; }

# The first line of the first file that can be read.
first() {
    value=
    for file in "$@"; do
        if [ -r "$file" ] && read -r value < "$file"; then return 0; fi
    done
    return 1
}

status() {
    while read -r key value rest; do
        if [ "$key" = "$1:" ]; then return 0; fi
    done < "/proc/$2/status"
    value=
    return 1
}

cd /
first /proc/sys/kernel/hostname
echo "This is printed from inside a container. It shows what the container is, sees and may do."
title "Who it is"
row "host name" "$value"
status Uid self && user=$value
status Gid self
row "user" "$user, group $value"
first /proc/sys/kernel/osrelease
row "kernel" "Linux $value, the host's: a container has no other"

title "Processes (the first one is number 1; those of the host are not there)"
for process in /proc/[0-9]*; do
    id=${process#/proc/}
    if status Name "$id" 2>/dev/null; then row "$id" "$value"; fi
done

title "Mounts (a file system of its own; r is read-only, w can be written)"
hidden=0
groups=0
while read -r source target kind options rest; do
    case $target in
        /proc/*|/sys/firmware*) hidden=$((hidden + 1)); continue ;;
        /sys/fs/cgroup/*) groups=$((groups + 1)); continue ;;
    esac
    case $options in
        ro|ro,*) mode=r ;;
        *) mode=w ;;
    esac
    printf '  %s  %-28s %s\n' "$mode" "$target" "$kind"
done < /proc/self/mounts
if [ "$groups" != 0 ]; then echo "  r  /sys/fs/cgroup/*             $groups times its own control group"; fi
echo "  and $hidden more that hide or protect parts of /proc and /sys"

title "Network"
count=0
while read -r line; do
    count=$((count + 1))
    if [ "$count" -gt 2 ]; then row "${line%%:*}" "an interface of its own; those of the host are not there"; fi
done < /proc/net/dev

title "Capabilities (the rights of root, one by one; the kernel refuses all others)"
names='chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
    net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin
    sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
    mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore'
decode() {
    bit=0
    text=
    denied=
    for name in $names; do
        if [ $((0x$1 >> bit & 1)) = 1 ]; then text="$text $name"; else denied="$denied $name"; fi
        bit=$((bit + 1))
    done
}
# Breaks a list of words into lines.
words() {
    label=$1
    shift
    line=
    for word in "$@"; do
        if [ $((${#line} + ${#word})) -gt 64 ]; then
            row "$label" "$line"
            label=
            line=
        fi
        line="$line${line:+ }$word"
    done
    row "$label" "${line:-none}"
}
status CapEff self
decode "$value"
words has $text
words "has not" $denied

title "Limits (of its control group)"
root=/sys/fs/cgroup
# Numbers beyond a quarter of what 64 bits hold are the kernel's way to say that there is none.
if first $root/memory.max $root/memory/memory.limit_in_bytes; then
    if [ "$value" = max ] || [ ${#value} -gt 18 ]; then value="no limit"; elif [ "$value" -ge 1048576 ]; then value="$((value / 1048576)) MiB"; else value="$value bytes"; fi
    row "memory" "$value"
fi
quota=
if first $root/cpu.max; then
    quota=${value% *}
    period=${value#* }
elif first $root/cpu/cpu.cfs_quota_us; then
    quota=$value
    first $root/cpu/cpu.cfs_period_us
    period=$value
fi
case $quota in
    '') ;;
    max|-1) row "cpus" "no limit" ;;
    *) row "cpus" "$(printf '%d.%03d' $((quota / period)) $((quota % period * 1000 / period)))" ;;
esac
if first $root/pids.max $root/pids/pids.max; then
    if [ "$value" = max ]; then value="no limit"; fi
    row "processes" "$value"
fi

# The name, then the words of the line: soft, hard, unit.
limit_row() { row "$1" "$2"; }
title "Limits (of each process)"
while read -r line; do
    case $line in
        'Max open files'*|'Max processes'*|'Max core file size'*|'Max locked memory'*)
            limit=${line%%  *}
            limit_row "${limit#Max }" ${line#"$limit"}
            ;;
    esac
done < /proc/self/limits

if command -v readlink > /dev/null; then
    title "Namespaces (what is its own, and what it shares with the host)"
    for host in "$@"; do
        name=${host%%:*}
        own=$(readlink "/proc/self/ns/$name")
        if [ "$own" = "$host" ]; then row "$name" "the host's"; else row "$name" "its own"; fi
    done
fi
