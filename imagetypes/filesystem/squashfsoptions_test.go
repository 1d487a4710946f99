package filesystem

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs/compress"
)

func TestSquashfsOptions(t *testing.T) {
	root, other := uint32(0), uint32(7)
	for _, c := range []struct {
		compression, words string
		want               squashfs.Options // BlockSize is set where it is 0
	}{
		{"", "", squashfs.Options{}},
		{"xz", "", squashfs.Options{Compression: compress.Settings{Method: "xz"}}},
		{"", "-comp xz -b 1M -Xbcj x86 -noappend", squashfs.Options{BlockSize: 1 << 20, Compression: compress.Settings{Method: "xz", Filters: []string{"x86"}}}},
		{"xz", "-comp xz -b 64k -Xbcj x86,arm -Xdict-size 75%", squashfs.Options{BlockSize: 64 << 10,
			Compression: compress.Settings{Method: "xz", Filters: []string{"x86", "arm"}, DictionarySize: 48 << 10}}},
		{"xz", "-Xdict-size 32K", squashfs.Options{Compression: compress.Settings{Method: "xz", DictionarySize: 32 << 10}}},
		{"", "-comp gzip -Xcompression-level 6 -Xwindow-size 12 -Xstrategy default -b 131072", squashfs.Options{BlockSize: 128 << 10,
			Compression: compress.Settings{Method: "gzip", Level: 6, Window: 12}}},
		{"uncompressed", "-processors 3 -mem 1G", squashfs.Options{Processors: 3, Compression: compress.Settings{Method: "gzip"},
			PlainInodes: true, PlainIDs: true, PlainData: true, PlainFragments: true, PlainXattrs: true}},
		{"", "-noI -noIdTableCompression -noF", squashfs.Options{PlainInodes: true, PlainIDs: true, PlainFragments: true}},
		{"", "-tailends -no-xattrs -no-exports -nopad -all-root", squashfs.Options{Fragments: squashfs.FragmentsAlways,
			NoXattrs: true, NoExport: true, NoPadding: true, UID: &root, GID: &root}},
		{"", "-no-fragments -force-gid 7", squashfs.Options{Fragments: squashfs.FragmentsNone, GID: &other}},
	} {
		if c.want.BlockSize == 0 {
			c.want.BlockSize = 256 << 10
		}
		c.want.Compression.BlockSize = c.want.BlockSize
		got, native, err := squashfsOptions(Spec{Type: "squashfs", Compression: c.compression, MkfsOptions: strings.Fields(c.words)})
		if err != nil || !native {
			t.Errorf("%q %q: native %v, %v", c.compression, c.words, native, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q %q (-want +got):\n%s", c.compression, c.words, diff)
		}
	}
	got, _, err := squashfsOptions(Spec{Type: "squashfs", MkfsOptions: []string{"-no-duplicates"}})
	if err != nil || !got.KeepDuplicates {
		t.Errorf("duplicates: %v, %v", got.KeepDuplicates, err)
	}
}

func TestSquashfsOptionsOfTheProgramAlone(t *testing.T) {
	for _, c := range []struct{ compression, words string }{
		{"lzo", ""}, {"lz4", "-Xhc"}, {"", "-comp lzma"}, {"", "-wildcards -e image"}, {"gzip", "-Xstrategy default,filtered"}, {"", "-force-uid root"}, {"", "-mkfs-time 7"}, {"xz", "-Xbcj x86,ia64"}, {"", "-Xcompression-level 12"}, {"zstd", "-Xcompression-level 22"},
	} {
		_, native, err := squashfsOptions(Spec{Type: "squashfs", Compression: c.compression, MkfsOptions: strings.Fields(c.words)})
		if err != nil || native {
			t.Errorf("%q %q: native %v, %v", c.compression, c.words, native, err)
		}
	}
}

func TestWrongSquashfsOptions(t *testing.T) {
	for _, c := range []struct{ compression, words, want string }{
		{"xz", "-comp gzip", "-comp gzip and the compression xz say different"},
		{"", "-comp", "reading the option -comp of squashfs: it needs a value"},
		{"", "-comp rar", `no method "rar"`},
		{"", "-b 3000", "a block size of 3000 bytes"},
		{"", "-b 2M", "a block size of 2097152 bytes"},
		{"", "-b big", `"big" is no size`},
		{"", "-b 9999999999999999M", `is no size`},
		{"gzip", "-Xcompression-level 10", "level 10 of gzip: there are 1 to 9"},
		{"", "-Xcompression-level 0", "there is no level 0"},
		{"gzip", "-Xwindow-size 16", "2^16 bytes"},
		{"gzip", "-Xbcj x86", "settings of xz, not of gzip"},
		{"xz", "-Xbcj z80", `no filter "z80"`},
		{"xz", "-Xdict-size 5000", "a dictionary of 5000 bytes"},
		{"xz", "-Xdict-size 120%", `"120%" is no part of a block`},
		{"", "-processors 0", "0 are too few"},
	} {
		_, _, err := squashfsOptions(Spec{Type: "squashfs", Compression: c.compression, MkfsOptions: strings.Fields(c.words)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q: %v", c.compression, c.words, err)
		}
	}
}
