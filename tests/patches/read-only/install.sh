#!/bin/sh
mount -o remount,ro /
