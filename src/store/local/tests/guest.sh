#!/bin/sh
# The first process of a User Mode Linux guest: runs one test of a test executable, and switches off.
# $1: the executable; $2: the full name of the test.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
modules=/usr/lib/uml/modules/$(uname -r)/kernel
for module in drivers/block/loop fs/nls/nls_cp437 fs/nls/nls_ascii fs/nls/nls_iso8859-1 fs/fat/fat fs/fat/vfat; do
    insmod "$modules/$module.ko"
done
# All that can be written to: files of the test, and the notes of `mount`. What holds the executable stays visible.
mount -t tmpfs tmpfs /run
TMPDIR=/run CI=true YESTER_TEST_GUEST=1 "$1" --exact "$2" --nocapture 2>&1
echo o >/proc/sysrq-trigger
# The order is carried out while the first process waits; its end would be a panic.
sleep 60
