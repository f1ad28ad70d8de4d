#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
#
# tunnel-ssh: sshd, and around it what follows the agents' keys.
#   serve   start sshd (default)
#   follow  take in what changed in keys/
#   state   for machines: connections of each agent
#
# A file in keys/ is an agent: a user of its own name, whose folder in /tunnel nobody else may write to.
set -eu
export LC_ALL=C

keys=/etc/tunnel/keys
host=/etc/tunnel/host/ssh_host_ed25519_key
sockets=/tunnel
seen=/run/tunnel-keys # as they were when they were last looked at
first=1900000000      # the lowest user ID of an agent: nobody's on any server

agents() {
    (cd "$keys" && find . -maxdepth 1 -type f -name '[a-z]*' ! -name '*[!a-z0-9-]*' | cut -c3- | sort)
}

owner() {
    stat -c %u "$sockets/$1"
}

# The folder keeps the agent's user ID, whatever container reads it.
folder() {
    [ ! -L "$sockets/$1" ] || rm "$sockets/$1"
    mkdir -p "$sockets/$1"
    if [ "$(owner "$1")" -lt "$first" ]; then
        highest=$(stat -c %u "$sockets"/* | sort -n | tail -n 1)
        next=$((highest < first ? first : highest + 1))
        chown "$next:$next" "$sockets/$1"
    fi
    chmod 755 "$sockets/$1"
}

# All connections of an agent's user ID.
disconnect() {
    [ "$1" -ge "$first" ] || return 0
    for status in /proc/[0-9]*/status; do
        if grep -q "^Uid:.$1	" "$status" 2>/dev/null; then
            process=${status#/proc/}
            kill "${process%/status}" 2>/dev/null || :
        fi
    done
}

users() {
    cp /usr/share/tunnel/passwd /run/passwd.new
    names=$(agents) # in two steps, so that its failure is one
    for agent in $names; do
        folder "$agent"
        id=$(owner "$agent")
        echo "$agent:*:$id:$id::/:/usr/sbin/nologin" >>/run/passwd.new
    done
    mv /run/passwd.new /run/passwd
}

# Who is no agent any more, or has one key less, is disconnected.
follow() {
    rm -rf "$seen.new"
    cp -R "$keys" "$seen.new"
    users
    for folder in "$sockets"/*; do
        [ -d "$folder" ] || continue
        agent=${folder##*/}
        if [ ! -f "$seen.new/$agent" ]; then
            disconnect "$(owner "$agent")"
            rm -rf "$folder"
        elif [ -f "$seen/$agent" ] && grep -vqxFf "$seen.new/$agent" "$seen/$agent"; then
            disconnect "$(owner "$agent")"
        fi
    done
    rm -rf "$seen"
    mv "$seen.new" "$seen"
}

# Connections of each agent: sshd has one process of its user for each.
state() {
    for agent in $(agents); do
        echo "$agent $(cat /proc/[0-9]*/status 2>/dev/null | grep -c "^Uid:.$(owner "$agent")	")"
    done
}

# A laptop may make any number of sockets in its folder; one is read, and the others would fill the disk.
sweep() {
    find "$sockets" -mindepth 2 ! -path "$sockets/*/app" -delete
}

differs() {
    ! diff -rq "$keys" "$seen" >/dev/null 2>&1
}

case ${1-serve} in
serve)
    mkdir -p /run/sshd
    # Of a container that was killed: nobody listens there.
    find "$sockets" -mindepth 2 -delete
    follow
    if [ ! -s "$host" ]; then
        rm -f "$host.new"
        ssh-keygen -q -t ed25519 -N '' -C tunnel -f "$host.new"
        mv "$host.new.pub" "$host.pub"
        mv "$host.new" "$host"
    fi
    /usr/sbin/sshd -D -e -f /etc/ssh/tunnel_config &
    server=$!
    trap 'kill "$server"; exit' TERM
    # Each time a process of its own: what fails is tried again soon. Where it fails on and on, or no process can begin,
    # the container ends, and Docker starts it again: nobody keeps a key by using up the processes.
    failures=0
    while sleep 2 && kill -0 "$server"; do
        if sh "$0" follow; then failures=0; else failures=$((failures + 1)); fi
        [ "$failures" -lt 10 ]
    done
    ;;
follow)
    if differs; then follow; fi
    sweep
    ;;
state)
    state
    ;;
*)
    echo "tunnel-ssh: unknown command '$1': serve, follow or state." >&2
    exit 1
    ;;
esac
