#!/bin/sh
printf 'caf\351 \033[31mred\033[0m \001\002 ]]> <b>&amp;\377\376\n'
exit 1
