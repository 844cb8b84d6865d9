#!/bin/sh
# The first program of an RDP desktop: the display server, what one sees in it, then xrdp. Runs inside the sandbox, as the session's user.
# Ends when the display server ends; the sandbox's process namespace then takes the rest with it.
set -u
conf=/etc/portcullis
sockets=/run/xrdp/sockdir
cd "$HOME" || exit 1
mkdir -m 700 /run/xrdp "$sockets" || exit 1

# The server writes its display number when clients may connect, so nobody polls for it. `-nolisten local` closes the abstract
# socket, which a desktop with network would share with the whole host. What it would log, it says on standard error, too.
mkfifo -m 600 /run/user/ready || exit 1
XRDP_SOCKET_PATH="$sockets" /usr/lib/xorg/Xorg :1 -displayfd 3 -config "$conf/xorg.conf" -logfile /dev/null -verbose 0 \
    -noreset -nolisten tcp -nolisten local -br -s 0 -dpms 3>/run/user/ready &
server=$!
read -r display </run/user/ready || exit 1
rm -f /run/user/ready
export DISPLAY=":$display"

# The clipboard. Its own home, since it would make folders for smart cards and drives in the user's.
mkdir -m 700 /run/user/channels
HOME=/run/user/channels CHANSRV_LOG_PATH=/run/user/channels /usr/sbin/xrdp-chansrv >/dev/null 2>&1 &
. "$conf/seen.sh"
# The screen takes the viewer's size when it comes; the wallpaper does so by being painted again.
stdbuf -oL xev -root -event randr 2>/dev/null | while read -r event _; do
    case "$event" in RRScreenChangeNotify) wallpaper ;; esac
done &

# xrdp listens last: whoever connects finds the display and the clipboard there (else it would try again only after a while).
tries=0
while [ ! -S "$sockets/xrdp_display_$display" ] || [ ! -S "$sockets/xrdp_chansrv_socket_$display" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || break
    sleep 0.01
done
# Each connection is a process of its own, so one that fails takes no other with it; should the listening one fail, the desktop lives on.
while kill -0 "$server" 2>/dev/null; do
    /usr/sbin/xrdp -n >/dev/null
    sleep 0.5
done &

wait "$server"
