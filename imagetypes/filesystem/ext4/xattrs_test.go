package ext4

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/internal/sampletree"
	"github.com/imgbuild/imgbuild/layers"
)

func TestDiskACL(t *testing.T) {
	got, err := diskACL(sampletree.ACL(1000, 70000))
	if err != nil {
		t.Fatal(err)
	}
	// Version 1; then tag and permissions of each entry, and an id behind those of a named user or group.
	want := []byte{
		1, 0, 0, 0,
		1, 0, 6, 0,
		2, 0, 7, 0, 0xe8, 3, 0, 0,
		4, 0, 4, 0,
		8, 0, 5, 0, 0x70, 0x11, 1, 0,
		0x10, 0, 7, 0,
		0x20, 0, 0, 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "\x01\x00\x00\x00", "\x02\x00\x00\x00\x01", "\x02\x00\x00\x00\x03\x00\x07\x00\xff\xff\xff\xff"} {
		if _, err := diskACL(bad); err == nil {
			t.Errorf("%q is taken for an access control list", bad)
		}
	}
}

// testSuperblock is one with the sizes that mke2fs chooses.
func testSuperblock() *superblock {
	return &superblock{blockSize: 4096, inodeSize: 256, extraIsize: 32}
}

func TestXattrsLeftOut(t *testing.T) {
	var notes []string
	inline, block := testSuperblock().placeXattrs([]layers.Xattr{
		{Name: "afs.strange", Value: "x"},
		{Name: "security.capability", Value: "12345678901234567890"},
		{Name: "system.posix_acl_access", Value: "broken"},
		{Name: "user." + strings.Repeat("n", 256), Value: "x"},
		{Name: "user.huge", Value: strings.Repeat("x", 5000)},
	}, func(text string) { notes = append(notes, text) })
	if inline == nil || block != nil {
		t.Errorf("the capability is not in the inode: %q, %q", inline, block)
	}
	want := []string{
		"extended attribute afs.strange left out: ext file systems have no such kind of attribute",
		"extended attribute system.posix_acl_access left out: it is not a POSIX access control list",
		"extended attribute user." + strings.Repeat("n", 256) + " left out: its name is longer than 255 bytes",
		"extended attribute user.huge of 5000 bytes left out: all attributes of a file must fit into a block of 4096 bytes",
	}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Error(diff)
	}
}

// FuzzXattrs places any attributes and reads them back from the bytes as the documentation describes them.
func FuzzXattrs(f *testing.F) {
	f.Add("user.a", "1", "security.b", "2", 256)
	f.Add("trusted.x", strings.Repeat("x", 4000), "system.posix_acl_access", sampletree.ACL(1, 2), 128)
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, inodeSize int) {
		sb := testSuperblock()
		if inodeSize == 128 {
			sb.inodeSize, sb.extraIsize = 128, 0
		}
		list := []layers.Xattr{{Name: name1, Value: value1}}
		if name1 != name2 {
			list = append(list, layers.Xattr{Name: name2, Value: value2})
		}
		notes := 0
		inline, block := sb.placeXattrs(list, func(string) { notes++ })
		found := 0
		if inline != nil {
			found += countEntries(t, inline[4:], 0)
		}
		if block != nil {
			found += countEntries(t, block, xattrHeaderSize)
		}
		if found+notes != len(list) {
			t.Errorf("%d attributes and %d notes of %d", found, notes, len(list))
		}
	})
}

// countEntries walks the entries of an area and checks that each value lies behind them.
func countEntries(t *testing.T, area []byte, at int) int {
	n := 0
	lowest := len(area)
	for ; !bytes.Equal(area[at:at+4], make([]byte, 4)); n++ {
		size := int(binary.LittleEndian.Uint32(area[at+8:]))
		if size > 0 {
			lowest = min(lowest, int(binary.LittleEndian.Uint16(area[at+2:])))
		}
		at += xattrEntrySize + pad4(int(area[at]))
	}
	if at+xattrEnd > lowest {
		t.Errorf("entries end at %d, values begin at %d", at, lowest)
	}
	return n
}
