# What one sees in a desktop, of either kind; read by its first program when the display is there. The desktop goes on without any of it.
wallpaper() {
    hsetroot -add '#16222a' -add '#22404f' -add '#3a6073' -gradient 145 >/dev/null 2>&1
}
wallpaper &
openbox --config-file "$conf/openbox.xml" &
xterm -ls -geometry 96x28+72+56 &
tint2 -c "$conf/tint2rc" &
dbus-daemon --session --nofork --nopidfile --address="$DBUS_SESSION_BUS_ADDRESS" >/dev/null 2>&1 &
