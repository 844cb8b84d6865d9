#!/bin/sh
# The first program of a desktop: the display server, then what one sees in it. Runs inside the sandbox, as the session's user.
# Ends when the display server ends; the sandbox's process namespace then takes the rest with it.
set -u
conf=/etc/portcullis
cd "$HOME" || exit 1

# The server writes its display number when clients may connect, so nobody polls for it. `-nolisten local` closes the abstract
# socket, which a desktop with network would share with the whole host.
mkfifo -m 600 /run/user/ready /run/user/log || exit 1
Xtigervnc :1 -displayfd 3 -rfbport -1 -rfbunixpath /run/ws/rfb.sock -rfbunixmode 0600 \
    -SecurityTypes VncAuth -PasswordFile /run/vncpasswd -UseBlacklist=0 -desktop "$PORTCULLIS_TITLE" \
    -geometry "$PORTCULLIS_GEOMETRY" -depth 24 -AlwaysShared -AcceptSetDesktopSize -nolisten tcp -nolisten local \
    -MaxCutText 16777216 -MaxIdleTime 0 -MaxDisconnectionTime 0 -MaxConnectionTime 0 -IdleTimeout 0 \
    -noreset -br -s 0 -dpms 2>/run/user/log 3>/run/user/ready &
server=$!
# In the order in which the server's side opens them.
exec 4</run/user/log
read -r display </run/user/ready || exit 1
rm -f /run/user/ready /run/user/log
export DISPLAY=":$display"
/bin/bash "$conf/keymap.sh" <&4 &
exec 4<&-

. "$conf/seen.sh"

wait "$server"
