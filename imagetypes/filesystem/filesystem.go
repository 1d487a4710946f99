// Package filesystem writes a root tree as a file system into a file, at any offset, and finds out how large it must be.
//
// Nothing is mounted on this machine and the tree is hardly ever unpacked, so that the result is the same for root and for an ordinary user. ext2, ext3 and
// ext4 are made empty by mke2fs and filled by package ext4; squashfs is written by package squashfs; erofs and cramfs are made from a temporary
// directory by the format's own tool; xfs, btrfs and reiserfs, which only a kernel writes faithfully, are filled from a tar stream by a helper kernel.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// Spec says which file system to make.
type Spec struct {
	// Type is one of [Types].
	Type string
	// Label is the volume label; empty for none. squashfs has none.
	Label string
	// UUID identifies the file system, in the usual form with hyphens. Empty for one that derives from Env.Repro.
	UUID string
	// MkfsOptions are further arguments for the tool of the file system, one word each.
	MkfsOptions []string
	// Free is how many bytes [Size] leaves free for what is written later.
	Free int64
	// Size is the least size in bytes that [Size] returns; 0 for as large as needed.
	Size int64

	// Attributes are letters of chattr(1) for the top directory and all in it, which inherits them: S, and on btrfs C too. ext2, ext3, ext4, xfs and
	// btrfs have them.
	Attributes string
	// Compression is the method of squashfs (gzip, lz4, lzma, lzo, xz or zstd; empty for zstd), or what mkfs.erofs takes after -z, such as lz4hc,12
	// (empty for lz4), or uncompressed.
	Compression string
	// Btrfs has what btrfs alone knows.
	Btrfs Btrfs
	// MountOptions are those that the file system will be mounted with, separated by commas. Of them btrfs's compress=... counts here, so that
	// the files are compressed at once.
	MountOptions string
}

// Env is what the writing of a file system needs from its surroundings.
type Env struct {
	Repro    repro.Source
	Log      *slog.Logger      // nil drops what is logged
	Progress progress.Reporter // nil shows nothing
	Workdir  string            // for temporary files; empty for the system's place

	// Observe, if not nil, gets the contents of files as they are written where [Observes] says so: see [image.Request.Observe].
	Observe func(n *layers.Node) io.Writer
	// Written, if not nil, gets what is written to ext2, ext3 and ext4: see [ext4.Options].
	Written func(final, at int64, data []byte, release func())

	// Cache may keep a squashfs, erofs or cramfs between Size and Write; nil makes it anew each time.
	Cache *Cache
	// HelperKernel chooses how xfs, btrfs and reiserfs are written; empty for the best way on this machine.
	HelperKernel helperkernel.Kind
}

// filled returns env with what may be nil set.
func (e Env) filled() Env {
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	if e.Progress == nil {
		e.Progress = progress.Discard
	}
	return e
}

// uuid returns the identifier that the file system gets.
func (e Env) uuid(spec Spec) string {
	if spec.UUID != "" {
		return strings.ToLower(spec.UUID)
	}
	return e.Repro.UUID("file system " + spec.Type + " " + spec.Label)
}

// Align is what sizes are a multiple of, in bytes.
const Align = 1 << 20

func alignUp(n int64) int64 { return (n + Align - 1) / Align * Align }

// format is one family of file systems.
type format struct {
	types []string
	// tools are the programs that are needed on this machine.
	tools []string
	check func(Spec) error
	size  func(context.Context, Env, *layers.Tree, Spec) (int64, error)
	write func(ctx context.Context, env Env, f *os.File, offset, size int64, tree *layers.Tree, spec Spec) error
}

func formats() []format {
	return []format{
		{types: []string{"ext2", "ext3", "ext4"}, tools: []string{"mke2fs"}, check: checkExt, size: sizeExt, write: writeExt},
		{types: []string{"xfs"}, tools: []string{"mkfs.xfs", "tar"}, check: checkXFS, size: sizeXFS, write: writeXFS},
		{types: []string{"btrfs"}, tools: []string{"mkfs.btrfs", "tar"}, check: checkBtrfs, size: sizeBtrfs, write: writeBtrfs},
		{types: []string{"reiserfs"}, tools: []string{"mkreiserfs", "tar"}, check: checkReiserfs, size: sizeReiserfs, write: writeReiserfs},
		packed("squashfs", nil, checkSquashfs, makeSquashfs),
		packed("erofs", []string{"mkfs.erofs"}, checkErofs, makeErofs),
		packed("cramfs", []string{"mkfs.cramfs"}, checkCramfs, makeCramfs),
	}
}

func formatOf(spec Spec) (format, error) {
	for _, f := range formats() {
		if slices.Contains(f.types, spec.Type) {
			return f, nil
		}
	}
	return format{}, fmt.Errorf("making a file system: %q is none of %s", spec.Type, strings.Join(Types(), ", "))
}

// Types returns the file systems that can be made.
func Types() []string {
	var all []string
	for _, f := range formats() {
		all = append(all, f.types...)
	}
	return all
}

// Check refuses a spec that can't be fulfilled, before any work is done.
func Check(spec Spec) error {
	f, err := formatOf(spec)
	if err != nil {
		return err
	}
	if spec.UUID != "" && !isUUID(spec.UUID) {
		return fmt.Errorf("making a file system: %q is no UUID; it looks like 01234567-89ab-cdef-0123-456789abcdef", spec.UUID)
	}
	if !utf8.ValidString(spec.Label) || strings.ContainsFunc(spec.Label, unicode.IsControl) {
		return fmt.Errorf("making a file system: the label %q is no text of one line", spec.Label)
	}
	if err := checkAttributes(spec); err != nil {
		return err
	}
	if err := f.check(spec); err != nil {
		return err
	}
	return needTools(f.tools)
}

// checkAttributes refuses attributes that the file system has not.
func checkAttributes(spec Spec) error {
	known := map[string]string{"ext2": "S", "ext3": "S", "ext4": "S", "xfs": "S", "btrfs": "SC"}[spec.Type]
	for _, letter := range spec.Attributes {
		if !strings.ContainsRune(known, letter) {
			return fmt.Errorf("%s file systems have no attribute %c of chattr", spec.Type, letter)
		}
	}
	return nil
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		if hyphen != (c == '-') || !hyphen && !strings.ContainsRune("0123456789abcdefABCDEF", c) {
			return false
		}
	}
	return true
}

// Size returns how many bytes a file system needs to hold the tree and spec.Free more, but at least spec.Size. It is a multiple of [Align].
func Size(ctx context.Context, env Env, tree *layers.Tree, spec Spec) (int64, error) {
	size, err := contentSize(ctx, env, tree, spec, "finding the size of the")
	if err != nil {
		return 0, err
	}
	return alignUp(max(size, spec.Size)), nil
}

// contentSize is how many bytes the content needs. An error says that it happened while doing so to the file system.
func contentSize(ctx context.Context, env Env, tree *layers.Tree, spec Spec, doing string) (int64, error) {
	if err := Check(spec); err != nil {
		return 0, err
	}
	f, err := formatOf(spec)
	if err != nil {
		return 0, err
	}
	size, err := f.size(ctx, env.filled(), tree, spec)
	if err != nil {
		return 0, fmt.Errorf("%s %s file system: %w", doing, spec.Type, err)
	}
	return size, nil
}

// Write makes a file system of the given size in f, beginning at offset, both in bytes, and writes the tree into it. What the file holds there
// before is dropped. f must be open for reading and writing; it grows as needed. It is not synced.
func Write(ctx context.Context, env Env, f *os.File, offset, size int64, tree *layers.Tree, spec Spec) error {
	if err := Check(spec); err != nil {
		return err
	}
	format, err := formatOf(spec)
	if err != nil {
		return err
	}
	if offset < 0 || size <= 0 {
		return fmt.Errorf("writing the %s file system: no place of %d bytes at offset %d", spec.Type, size, offset)
	}
	if err := makeRoom(f, offset, size); err != nil {
		return fmt.Errorf("writing the %s file system: %w", spec.Type, err)
	}
	if err := format.write(ctx, env.filled(), f, offset, size, tree, spec); err != nil {
		return fmt.Errorf("writing the %s file system: %w", spec.Type, err)
	}
	return nil
}

// Create makes a file system in a new file, as large as it needs to be to hold the tree and spec.Free more, but at least spec.Size, and returns its size in
// bytes. It is [Size] and [Write], but spares a compressed file system the way through a file of its own.
func Create(ctx context.Context, env Env, f *os.File, tree *layers.Tree, spec Spec) (int64, error) {
	if spec.Type == "squashfs" && spec.Free == 0 && spec.Size == 0 {
		if err := Check(spec); err != nil {
			return 0, err
		}
		size, err := writeSquashfs(ctx, env.filled(), f, tree, spec)
		if err != nil {
			return 0, fmt.Errorf("writing the squashfs file system: %w", err)
		}
		return size, nil
	}
	size, err := Size(ctx, env, tree, spec)
	if err != nil {
		return 0, err
	}
	return size, Write(ctx, env, f, 0, size, tree, spec)
}

// Observes reports whether Env.Observe is served for a spec.
func Observes(spec Spec) bool {
	if spec.Type == "squashfs" {
		_, native, err := squashfsOptions(spec)
		return native && err == nil
	}
	return strings.HasPrefix(spec.Type, "ext")
}

// makeRoom makes the file long enough, and a hole of the place where the file system goes.
func makeRoom(f *os.File, offset, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < offset+size {
		if err := f.Truncate(offset + size); err != nil {
			return err
		}
	}
	if info.Size() <= offset {
		return nil
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, size)
	if err == nil || !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	// The host's file system can't make holes. If it can't tell them either, it says that everything is data.
	data, err := unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) || err == nil && data >= offset+size {
		return nil
	}
	return fmt.Errorf("%s holds data already and its file system can't make holes; start with a new file", f.Name())
}

// report tells the user what a file system could not hold.
func (e Env) report(kind string, notes []layers.Note) {
	const shown = 20
	for i, n := range notes {
		if i == shown {
			e.Progress.Note(fmt.Sprintf("%s: %d further notes are in the log", kind, len(notes)-shown))
		}
		if i < shown {
			e.Progress.Note(fmt.Sprintf("%s: %s: %s", kind, n.Path, n.Text))
		}
		e.Log.Warn("the file system can't hold all of it", "type", kind, "path", n.Path, "what", n.Text)
	}
}
