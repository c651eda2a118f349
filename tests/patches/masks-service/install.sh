#!/bin/sh
systemctl disable --now ssh.service
systemctl mask ssh.service
