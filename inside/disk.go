package inside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/ext4"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/partition"
	"github.com/imgbuild/imgbuild/internal/spool"
	"github.com/imgbuild/imgbuild/layers"
)

// Partition is one of a disk.
type Partition struct {
	Number int    `json:"number"`
	Name   string `json:"name,omitempty"`  // in a GPT
	Label  string `json:"label,omitempty"` // of an ext or FAT file system
	Type   string `json:"type"`            // what the table says it is for
	Holds  string `json:"holds,omitempty"` // what is in it
	Start  int64  `json:"start"`           // bytes
	Size   int64  `json:"size"`            // bytes
	Root   bool   `json:"root"`            // shown where no partition is named
}

// partitions reads the table of a raw disk.
func (o *opener) partitions(p part) ([]Partition, error) {
	plan, err := partition.Read(p.reader(), p.size)
	if errors.Is(err, partition.ErrNoTable) {
		return nil, ErrNotDisk
	}
	if err != nil {
		return nil, err
	}
	var list []Partition
	for _, q := range plan.Partitions {
		entry := Partition{Number: q.Number, Name: q.Name, Type: q.Type.Name, Start: q.Start, Size: q.Size}
		r := entry.in(p).reader()
		holds := recognize(r, q.Size)
		entry.Holds = holds.name
		switch {
		case holds.name == "disk":
			entry.Holds = "" // a chance likeness: boot code looks like a table
		case ext4.Is(r):
			entry.Label = ext4.VolumeLabel(r)
		case holds.name == fatName:
			entry.Label = fatLabel(r)
		}
		list = append(list, entry)
	}
	root := rootOf(list)
	if recognize(p.reader(), p.size).name == isoName { // the medium itself is what is shown
		root = slices.IndexFunc(list, func(q Partition) bool { return q.Holds == isoName })
	}
	if root >= 0 {
		list[root].Root = true
	}
	return list, nil
}

// rootOf finds the partition with the root tree, -1 if there is none: the one that its name or type says to be it, read-only roots first, else the largest that
// may hold it.
func rootOf(list []Partition) int {
	best := -1
	rank := func(p Partition) int {
		switch {
		case !holdsTree(p.Holds):
			return 0
		case p.Name == "p.lxreadonly":
			return 4
		case p.Name == "p.lxroot" || p.Name == "p.lxlvm" || p.Name == "p.lxraid" || p.Name == "p.lxluks" || strings.HasPrefix(p.Type, "Linux root"):
			return 3
		case strings.EqualFold(p.Label, "root") || strings.EqualFold(p.Name, "root"):
			return 2
		}
		return 1
	}
	for i, p := range list {
		if r := rank(p); r > 0 && (best < 0 || r > rank(list[best]) || r == rank(list[best]) && p.Size > list[best].Size) {
			best = i
		}
	}
	return best
}

// holdsTree reports whether a partition may hold a root tree.
func holdsTree(holds string) bool {
	switch holds {
	case "squashfs", "erofs", "LUKS volume", "physical volume of LVM", "member of a RAID":
		return true
	}
	return strings.HasSuffix(holds, "file system") && holds != fatName
}

// disk opens the partition that is named, or else the root file system.
func (o *opener) disk(ctx context.Context, p part, parts []string) (*layers.Tree, error) {
	list, err := o.partitions(p)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, q := range list {
		if len(parts) > 0 && q.is(parts[0]) || len(parts) == 0 && q.Root {
			return o.partition(ctx, p, q, parts[min(1, len(parts)):])
		}
		names = append(names, strings.TrimSpace(fmt.Sprintf("%d %s", q.Number, q.Name)))
	}
	if len(parts) > 0 {
		return nil, fmt.Errorf("the disk has no partition %q; it has %s", parts[0], strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("none of the disk's partitions holds a root file system that can be read; choose one of %s with #NUMBER behind the file's name", strings.Join(names, ", "))
}

// is reports whether a part is the partition's number, name or label.
func (p Partition) is(part string) bool {
	return part == strconv.Itoa(p.Number) || part != "" && (part == p.Name || part == p.Label)
}

// in is the partition's range of a disk.
func (p Partition) in(disk part) part {
	return part{file: disk.file, offset: disk.offset + p.Start, size: p.Size}
}

// partition opens a partition of a disk.
func (o *opener) partition(ctx context.Context, disk part, p Partition, parts []string) (*layers.Tree, error) {
	tree, err := o.tree(ctx, p.in(disk), parts)
	if err != nil {
		return nil, fmt.Errorf("partition %d: %w", p.Number, err)
	}
	return tree, nil
}

// iso opens an ISO image, or the partition that is named of one that is a disk too.
func (o *opener) iso(ctx context.Context, p part, parts []string) (*layers.Tree, error) {
	if len(parts) > 0 && parts[0] != outside {
		list, err := o.partitions(p)
		if err != nil && !errors.Is(err, ErrNotDisk) {
			return nil, err
		}
		if i := slices.IndexFunc(list, func(q Partition) bool { return q.is(parts[0]) }); i >= 0 {
			return o.partition(ctx, p, list[i], parts[1:])
		}
	}
	tree, err := o.foreignArchive(ctx, p)
	if err != nil {
		return nil, err
	}
	return o.within(ctx, tree, parts)
}

// rawDisk converts a disk of another format with qemu-img into a sparse raw one.
func (o *opener) rawDisk(ctx context.Context, p part, format string) (part, error) {
	source, files := p.name, []*os.File{}
	if source == "" {
		f, err := o.alone(ctx, p)
		if err != nil {
			return part{}, err
		}
		source, files = descriptor, []*os.File{f}
	}
	if err := refuseForeign(ctx, source, files, format); err != nil {
		return part{}, err
	}
	out, err := spool.New(o.TempDir)
	if err != nil {
		return part{}, fmt.Errorf("making a temporary file: %w", err)
	}
	o.keep(out)
	files = append(files, out)
	target := fmt.Sprintf("/proc/self/fd/%d", 2+len(files))
	if err := command.Run(ctx, command.Cmd{Name: "qemu-img", Args: []string{"convert", "-f", format, "-O", "raw", "-S", "64k", source, target}, Files: files}); err != nil {
		return part{}, err
	}
	info, err := out.Stat()
	if err != nil {
		return part{}, err
	}
	return part{file: out, size: info.Size()}, nil
}
