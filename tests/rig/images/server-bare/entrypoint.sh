#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# systemd and an inner dockerd must write where Docker mounts read-only; this needs SYS_ADMIN, but no --privileged.
awk '$4 ~ /^ro(,|$)/ && ($2 == "/proc/sys" || $2 ~ "^/sys/fs/cgroup") { print $2 }' /proc/mounts |
while read -r folder; do
    mount -o remount,bind,rw "$folder" || echo "entrypoint: $folder stays read-only" >&2
done
exec /sbin/init
