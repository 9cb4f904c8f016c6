#!/bin/bash
# The first process of an instance: cloud-init's part, then the ECS agent's, then it waits to be told to end.
trap 'exit 0' TERM INT
log=/var/log/cloud-init-output.log
here=/var/lib/cloud/instance
say() { echo "Cloudlet: $*" >>"$log"; }

say "instance $CLOUDLET_INSTANCE boots, as ${CLOUDLET_ABOUT:-a machine}"
if [ ! -e "$here/boot-finished" ]; then
  cat "$here/said" >>"$log" 2>/dev/null
  for part in "$here"/scripts/*; do
    [ -x "$part" ] || continue
    "$part" >>"$log" 2>&1 </dev/null &
    wait $!
    code=$?
    [ $code -eq 0 ] || echo "cc_scripts_user.py[WARNING]: Failed to run module scripts-user: $part [$code]" >>"$log"
  done
  date -u >"$here/boot-finished"
  say "user data has been run"
fi
# An image that may be one of ECS has the agent once its user data has written the agent's settings.
if [ -e /etc/ecs/ecs.config ]; then
  /opt/cloudlet/bin/ecs-agent >>"$log" 2>&1 </dev/null &
fi
while :; do
  sleep infinity &
  wait $!
done
