#!/bin/sh
echo 'session required pam_exec.so /bin/sleep 300' >>/etc/pam.d/common-session
