#!/bin/bash
# Keeps keycodes free on a VNC desktop. The server gives a character that no key of the keymap types a free keycode, for ever, and
# drops the character when none is left; loading the keymap again frees those it has given. Reads the server's log, which names
# each one. Never waits for the server, which waits for this while the pipe is full.

# Without the multimedia keys (`inet`), 131 keycodes are free instead of 19.
load() {
    setxkbmap -symbols pc+us >/dev/null 2>&1 &
}
# Keycodes given before the keymap is loaded again once nobody types new characters, and while somebody does.
quiet=30
full=110

load
given=0
while :; do
    if [ "$given" -lt "$quiet" ]; then
        read -r line || exit
    else
        read -r -t 0.4 line
        status=$?
        # Above 128: nothing in that time.
        if [ "$status" -gt 128 ]; then given=$full; elif [ "$status" -ne 0 ]; then exit; fi
    fi
    case "$line" in
    *'Added unknown keysym'*) given=$((given + 1)) ;;
    # What is typed is not logged.
    *keysym*) ;;
    *) printf '%s\n' "$line" >&2 ;;
    esac
    line=
    [ "$given" -ge "$full" ] || continue
    load
    given=0
done
