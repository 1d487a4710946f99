// Package inside opens images of any type that this project writes, and most that others write, as trees to look at: disks of all formats, file systems, archives,
// containers and ISO images. Nothing is mounted, and nobody needs to be root.
//
// What is shown is the root tree: a disk's root file system, and the system that an ISO image or an archive carries. Everything else lies behind a part: a
// partition of a disk, a container of an archive, a file of a tree that is an image itself, or "." for the files of the medium or the archive.
package inside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/partition"
	"github.com/imgbuild/imgbuild/internal/sparse"
	"github.com/imgbuild/imgbuild/internal/spool"
	"github.com/imgbuild/imgbuild/layers"
)

// Name says what to look at.
type Name struct {
	File  string   // the image
	Parts []string // partitions, containers or files, each inside of the one before
	Path  string   // in the tree; "" for its root
}

// ParseName takes apart FILE[#PART]...[:/PATH]. A file that has such a name is meant as a whole.
func ParseName(text string) Name {
	if _, err := os.Lstat(text); err == nil {
		return Name{File: text}
	}
	file, rest, found := strings.Cut(text, "#")
	if !found {
		return Name{File: text}
	}
	rest, path, _ := strings.Cut(rest, ":/")
	return Name{File: file, Parts: strings.Split(rest, "#"), Path: path}
}

// String is the opposite of [ParseName].
func (n Name) String() string {
	text := strings.Join(append([]string{n.File}, n.Parts...), "#")
	if n.Path != "" {
		text += ":/" + n.Path
	}
	return text
}

// Options say how images are opened. The zero value is fine.
type Options struct {
	Platform string // of a container for several, OS/ARCH[/VARIANT]; empty for this machine's
	TempDir  string // for temporary files; empty for $TMPDIR or else /var/tmp
	// Passphrase opens LUKS volumes; nil for none.
	Passphrase []byte
	// Kernel is how what only a kernel can read is read: xfs, btrfs and reiserfs, LUKS, LVM and RAID. Kernels are for QEMU; nil for this machine's.
	Kernel  helperkernel.Kind
	Kernels []helperkernel.Kernel
	Log     *slog.Logger // told of what a tree can't show; nil drops it
}

// Image is an open image. Its tree may be used until it is closed.
type Image struct {
	*layers.Tree
	Kind string // for people, such as "qcow2 disk, ext4 file system"

	closers []io.Closer
}

// Close closes what the tree's contents lie in.
func (i *Image) Close() error {
	var errs []error
	for _, c := range i.closers {
		errs = append(errs, c.Close())
	}
	i.closers = nil
	return errors.Join(errs...)
}

// Open opens an image, or a directory as a root tree.
func Open(ctx context.Context, name Name, opts Options) (*Image, error) {
	image := &Image{}
	o := &opener{Options: opts, image: image}
	err := o.openTree(ctx, name)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("looking into %s: %w", name, err), image.Close())
	}
	image.Kind = strings.Join(o.kinds, ", ")
	return image, nil
}

// ErrNotDisk says that an image has no partitions.
var ErrNotDisk = errors.New("it is no disk with partitions")

// Partitions lists the partitions of a disk.
func Partitions(ctx context.Context, name Name, opts Options) (list []Partition, err error) {
	image := &Image{}
	defer func() { err = errors.Join(err, image.Close()) }()
	o := &opener{Options: opts, image: image}
	err = o.openFile(ctx, name, func(p part) error {
		p, err := o.part(ctx, p, name.Parts)
		if err == nil {
			list, err = o.partitions(p)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking into %s: %w", name, err)
	}
	return list, nil
}

// opener opens one image.
type opener struct {
	Options
	image *Image
	kinds []string
}

func (o *opener) keep(c io.Closer) { o.image.closers = append(o.image.closers, c) }

func (o *opener) note(kind string, notes []layers.Note) {
	if o.Log == nil {
		return
	}
	for _, n := range notes {
		o.Log.Warn("the "+kind+" does not show everything", "path", n.Path, "what", n.Text)
	}
}

// openTree sets the image's tree.
func (o *opener) openTree(ctx context.Context, name Name) error {
	if info, err := os.Stat(name.File); err == nil && info.IsDir() {
		o.kinds = append(o.kinds, "directory")
		tree, notes, err := layers.ScanDir(ctx, name.File, layers.ScanOptions{KeepVolatile: true})
		if err != nil {
			return err
		}
		o.note("directory", notes)
		if o.image.Tree = tree; len(name.Parts) > 0 {
			o.image.Tree, err = o.within(ctx, tree, name.Parts)
		}
		return err
	}
	return o.openFile(ctx, name, func(p part) (err error) {
		o.image.Tree, err = o.tree(ctx, p, name.Parts)
		return err
	})
}

// openFile opens the file that a name begins with.
func (o *opener) openFile(ctx context.Context, name Name, work func(part) error) error {
	info, err := os.Stat(name.File)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is neither a file nor a directory")
	}
	f, err := os.Open(name.File)
	if err != nil {
		return err
	}
	o.keep(f)
	return work(part{file: f, size: info.Size(), name: name.File})
}

// part is a range of a file.
type part struct {
	file         *os.File
	offset, size int64  // bytes
	name         string // of the file, if it is all of one that has a name
}

func (p part) reader() *io.SectionReader { return io.NewSectionReader(p.file, p.offset, p.size) }

// descriptor is how a program sees a file that it gets as its first extra descriptor.
const descriptor = "/proc/self/fd/3"

// alone returns a file that holds the part and nothing else, for programs that read from the beginning of a file to its end.
func (o *opener) alone(ctx context.Context, p part) (*os.File, error) {
	if info, err := p.file.Stat(); err == nil && p.offset == 0 && info.Size() == p.size {
		return p.file, nil
	}
	whole, err := o.spool(ctx, p.reader(), p.size)
	return whole.file, err
}

// spool copies what a reader gives into a file without a name. Blocks of zeros become holes. source is how many bytes all of it comes from.
func (o *opener) spool(ctx context.Context, r io.Reader, source int64) (part, error) {
	f, err := spool.New(o.TempDir)
	if err != nil {
		return part{}, fmt.Errorf("making a temporary file: %w", err)
	}
	o.keep(f)
	size, err := sparse.Unpack(ctx, f, r, source)
	if err != nil {
		return part{}, err
	}
	return part{file: f, size: size}, f.Truncate(size)
}

// tree opens a part as a tree, and in it the further parts that are named.
func (o *opener) tree(ctx context.Context, p part, parts []string) (*layers.Tree, error) {
	format := recognize(p.reader(), p.size)
	if format.open == nil {
		return nil, format.refuse()
	}
	o.kinds = append(o.kinds, format.name)
	return format.open(o, ctx, p, parts)
}

// within opens the parts that are named inside of a tree. Without any it is the tree, or the root tree that an image in it has.
func (o *opener) within(ctx context.Context, tree *layers.Tree, parts []string) (*layers.Tree, error) {
	parts = lead(tree, parts)
	if len(parts) == 0 {
		return tree, nil
	}
	p, err := o.file(ctx, tree, parts[0])
	if err != nil {
		return nil, err
	}
	return o.tree(ctx, p, parts[1:])
}

// lead returns the parts to look for in a tree: a medium or an archive leads to the image that it carries, unless a part says otherwise.
func lead(tree *layers.Tree, parts []string) []string {
	if len(parts) > 0 && parts[0] == outside {
		return parts[1:]
	}
	system := carried(tree)
	if system == "" {
		return parts
	}
	if len(parts) > 0 {
		if _, _, err := tree.Resolve(parts[0]); err == nil {
			return parts
		}
	}
	return slices.Insert(slices.Clone(parts), 0, system)
}

// file makes a part of a file in a tree.
func (o *opener) file(ctx context.Context, tree *layers.Tree, name string) (part, error) {
	_, node, err := tree.Resolve(name)
	if errors.Is(err, fs.ErrNotExist) {
		return part{}, fmt.Errorf("there is no part %q: parts are the numbers, names and labels of a disk's partitions, the names of an archive's containers, and files", name)
	}
	if err != nil {
		return part{}, err
	}
	if node.IsDir() {
		return part{}, fmt.Errorf("its part %s is a directory: write #.:/%s", name, layers.Clean(name))
	}
	if p, ok := inPlace(node); ok {
		return p, nil
	}
	r, err := node.Open()
	if err != nil {
		return part{}, fmt.Errorf("opening its part %s: %w", name, err)
	}
	defer r.Close()
	return o.spool(ctx, r, node.Size)
}

// inPlace makes a part of a file's content where that lies in one piece in one of the opener's files.
func inPlace(node *layers.Node) (part, bool) {
	content, ok := node.Content.(*layers.BlobContent)
	if !ok || content.Source.Algorithm != layers.None || content.Runs != nil || content.Length != node.Size {
		return part{}, false
	}
	blob, ok := content.Source.Blob.(*io.SectionReader)
	if !ok {
		return part{}, false
	}
	within, offset, _ := blob.Outer()
	file, ok := within.(*os.File)
	return part{file: file, offset: offset + content.Offset, size: node.Size}, ok
}

// hasTable reports whether there is a partition table.
func hasTable(p part) bool {
	_, err := partition.Read(p.reader(), p.size)
	return err == nil
}

// part finds a part that is to be listed instead of opened.
func (o *opener) part(ctx context.Context, p part, parts []string) (part, error) {
	format := recognize(p.reader(), p.size)
	if format.unwrap != nil {
		inner, err := format.unwrap(o, ctx, p)
		if err != nil {
			return part{}, err
		}
		return o.part(ctx, inner, parts)
	}
	if len(parts) == 0 && (!format.carries || format.table && hasTable(p)) {
		return p, nil
	}
	if format.open == nil {
		return part{}, format.refuse()
	}
	var all []string
	if format.carries {
		all = []string{outside}
	}
	tree, err := format.open(o, ctx, p, all)
	if err != nil {
		return part{}, err
	}
	if parts = lead(tree, parts); len(parts) == 0 {
		return p, nil
	}
	inner, err := o.file(ctx, tree, parts[0])
	if err != nil {
		return part{}, err
	}
	return o.part(ctx, inner, parts[1:])
}
