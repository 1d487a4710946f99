#!/bin/sh
rm -rf /usr/share/doc/packages
