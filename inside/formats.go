package inside

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/imgbuild/imgbuild/internal/decompress"
	"github.com/imgbuild/imgbuild/internal/partition"
	"github.com/imgbuild/imgbuild/layers"
)

// format is one form that an image can have.
type format struct {
	name  string // for people
	marks []mark // any of them tells it
	// open makes a tree. nil for what can't be looked into.
	open func(*opener, context.Context, part, []string) (*layers.Tree, error)
	// unwrap makes the image that the format is only a shell of; nil if it is none.
	unwrap func(*opener, context.Context, part) (part, error)
	// carries says that what it holds may be there for an image in it, and table that it may have partitions besides.
	carries, table bool
	// why it can't be opened.
	closed string
}

// mark is what bytes a format has in a place.
type mark struct {
	at    int64 // negative: from the end
	bytes string
}

const (
	fatName = "FAT file system"
	isoName = "ISO image"
)

// raidMagic begins the superblock of a RAID's member: 1.1 at the begin, 1.2 at byte 4096. What has 1.0 begins with the content.
const raidMagic = "\xfc\x4e\x2b\xa9"

func (f format) refuse() error {
	if f.name == "" {
		return errors.New("it is no image of a known type: no disk, file system, archive, container or ISO image")
	}
	return fmt.Errorf("it is a %s: %s", f.name, f.closed)
}

// shell is a format that is unwrapped before anything else.
func shell(name string, unwrap func(*opener, context.Context, part) (part, error), marks ...mark) format {
	return format{name: name, marks: marks, unwrap: unwrap, open: func(o *opener, ctx context.Context, p part, parts []string) (*layers.Tree, error) {
		inner, err := unwrap(o, ctx, p)
		if err != nil {
			return nil, err
		}
		return o.tree(ctx, inner, parts)
	}}
}

// holder is a format whose tree one function reads.
func holder(name string, read func(*opener, context.Context, part) (*layers.Tree, error), marks ...mark) format {
	return format{name: name, marks: marks, open: func(o *opener, ctx context.Context, p part, parts []string) (*layers.Tree, error) {
		tree, err := read(o, ctx, p)
		if err != nil {
			return nil, err
		}
		return o.within(ctx, tree, parts)
	}}
}

// formats are all of them; the first that fits counts. Places are those of the formats' specifications, in bytes.
func formats() []format {
	disk := func(name, qemu string, marks ...mark) format {
		return shell(name+" disk", func(o *opener, ctx context.Context, p part) (part, error) { return o.rawDisk(ctx, p, qemu) }, marks...)
	}
	kernel := func(name string, marks ...mark) format {
		return holder(name+" file system", func(o *opener, ctx context.Context, p part) (*layers.Tree, error) { return o.kernelTree(ctx, p, name) }, marks...)
	}
	zip := holder("zip archive", (*opener).foreignArchive, mark{0, "PK\x03\x04"})
	zip.carries = true
	var all []format
	for _, f := range decompress.Formats() {
		all = append(all, decompressed(f))
	}
	return append(all, []format{
		disk("qcow2", "qcow2", mark{0, "QFI\xfb"}),
		disk("VMDK", "vmdk", mark{0, "KDMV"}, mark{0, "# Disk DescriptorFile"}),
		disk("VHDX", "vhdx", mark{0, "vhdxfile"}),
		disk("VDI", "vdi", mark{0x40, "\x7f\x10\xda\xbe"}),
		disk("VHD", "vpc", mark{0, "conectix"}, mark{-512, "conectix"}),

		{name: "tar archive", marks: []mark{{257, "ustar"}}, open: (*opener).tar, carries: true},
		holder("cpio archive", (*opener).cpio, mark{0, "070701"}, mark{0, "070702"}),
		zip,
		{name: isoName, marks: []mark{{32769, "CD001"}}, open: (*opener).iso, carries: true, table: true},

		holder("squashfs", (*opener).squashfs, mark{0, "hsqs"}),
		holder("ext file system", (*opener).ext, mark{0x438, "\x53\xef"}),
		holder("erofs", (*opener).erofs, mark{1024, "\xe2\xe1\xf5\xe0"}),
		holder("cramfs", (*opener).cramfs, mark{0, "\x45\x3d\xcd\x28"}),
		kernel("xfs", mark{0, "XFSB"}),
		kernel("btrfs", mark{0x10040, "_BHRfS_M"}),
		kernel("reiserfs", mark{0x10034, "ReIsErFs"}, mark{0x10034, "ReIsEr2Fs"}, mark{0x10034, "ReIsEr3Fs"}),
		holder(fatName, (*opener).fat, mark{54, "FAT1"}, mark{82, "FAT32"}),

		shell("LUKS volume", (*opener).unlock, mark{0, "LUKS\xba\xbe"}),
		shell("member of a RAID", (*opener).assemble, mark{0, raidMagic}, mark{4096, raidMagic}),
		{name: "physical volume of LVM", marks: []mark{{512, "LABELONE"}}, open: (*opener).logicalVolume},
		{name: "swap space", marks: []mark{{4086, "SWAPSPACE2"}}, closed: "there are no files in it"},
	}...)
}

// recognize tells what a range of bytes is. The format without a name is none.
func recognize(r io.ReaderAt, size int64) format {
	for _, f := range formats() {
		for _, m := range f.marks {
			at := m.at
			if at < 0 {
				at += size
			}
			got := make([]byte, len(m.bytes))
			if n, _ := r.ReadAt(got, at); n == len(got) && string(got) == m.bytes {
				return f
			}
		}
	}
	if _, err := partition.Read(r, size); err == nil {
		return format{name: "disk", open: (*opener).disk}
	}
	return format{}
}
