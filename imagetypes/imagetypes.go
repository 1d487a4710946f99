// Package imagetypes is the table of image types and the way from a finished root tree to results in their place.
package imagetypes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/appx"
	"github.com/imgbuild/imgbuild/imagetypes/archive"
	"github.com/imgbuild/imgbuild/imagetypes/container"
	"github.com/imgbuild/imgbuild/imagetypes/disk"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/iso"
	"github.com/imgbuild/imgbuild/imagetypes/kis"
	"github.com/imgbuild/imgbuild/imagetypes/results"
	"github.com/imgbuild/imgbuild/imagetypes/xen/guest"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// Type is one image type.
type Type struct {
	Name      string // as in a description's image attribute
	Family    string // the folder of its builder
	Extension string // of the main result, without the leading dot
	Summary   string // what it is, for lists
	Builder   image.Builder
}

// All returns the image types by family.
func All() []Type {
	return []Type{
		{"oem", "disk", "raw", "a disk that boots, raw or in the format of a virtual machine monitor", disk.Builder{}},
		{"iso", "iso", "iso", "a live system on a CD or a USB stick", iso.Builder{}},
		{"docker", "container", "docker.tar", "a container for docker load and podman load", container.Builder{}},
		{"oci", "container", "oci.tar", "a container as an OCI image layout", container.Builder{}},
		{"tbz", "archive", "tar.xz", "the root tree as a tar archive, compressed by xz", archive.Builder{}},
		{"tar", "archive", "tar", "the root tree as a tar archive", archive.Builder{}},
		{"tar.gz", "archive", "tar.gz", "the root tree as a tar archive, compressed by gzip", archive.Builder{}},
		{"tar.zst", "archive", "tar.zst", "the root tree as a tar archive, compressed by zstd", archive.Builder{}},
		{"cpio", "archive", "cpio", "the root tree as a cpio archive, which a kernel takes for its initial RAM disk", archive.Builder{}},
		{"kis", "kis", "tar.xz", "a kernel with its initial RAM disk and a system image", kis.Builder{}},
		{"pxe", "kis", "tar.xz", "the same, as older descriptions call it", kis.Builder{}},
		{"appx", "appx", "appx", "a package for Windows with a Linux distribution for WSL", appx.Builder{}},
		{"wsl", "appx", "wsl", "a Linux distribution for wsl --install --from-file", appx.Builder{}},
		{"ext2", "filesystem", "ext2", "the root tree as an ext2 file system", filesystem.Builder{}},
		{"ext3", "filesystem", "ext3", "the root tree as an ext3 file system", filesystem.Builder{}},
		{"ext4", "filesystem", "ext4", "the root tree as an ext4 file system", filesystem.Builder{}},
		{"xfs", "filesystem", "xfs", "the root tree as an XFS file system", filesystem.Builder{}},
		{"btrfs", "filesystem", "btrfs", "the root tree as a Btrfs file system", filesystem.Builder{}},
		{"squashfs", "filesystem", "squashfs", "the root tree as a compressed file system for reading", filesystem.Builder{}},
		{"erofs", "filesystem", "erofs", "the root tree as a compressed file system for reading at random", filesystem.Builder{}},
		{"cramfs", "filesystem", "cramfs", "the root tree as the small compressed file system of old boot servers", filesystem.Builder{}},
		{"reiserfs", "filesystem", "reiserfs", "the root tree as a ReiserFS file system, for old machines", filesystem.Builder{}},
	}
}

// UnknownTypeError says that there is no such image type.
type UnknownTypeError struct {
	Name    string
	Similar string // the type that was probably meant, or empty
}

// Error implements error.
func (e *UnknownTypeError) Error() string {
	var names []string
	for _, t := range All() {
		names = append(names, t.Name)
	}
	text := fmt.Sprintf("there is no image type %q", e.Name)
	if e.Name == "clicfs" {
		text += ", in KIWI neither any more; squashfs and erofs are what it was"
	}
	if e.Similar != "" {
		text += fmt.Sprintf("; did you mean %s?", e.Similar)
	}
	return text + "; there are " + strings.Join(names, ", ")
}

// Lookup returns the image type of the given name. The error is an *[UnknownTypeError].
func Lookup(name string) (Type, error) {
	best, distance := "", 3
	for _, t := range All() {
		if t.Name == name {
			return t, nil
		}
		if d := editDistance(strings.ToLower(name), t.Name); d < distance {
			best, distance = t.Name, d
		}
	}
	return Type{}, &UnknownTypeError{name, best}
}

// editDistance is how many characters must be changed, added or left out to make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// CreateOptions say what to build from what.
type CreateOptions struct {
	Tree        *layers.Tree       // the finished root tree
	Description *description.Image // resolved for the type to build
	Base        *image.Base        // the container that the tree began as, nil for none
	Runner      image.Runner       // runs programs on root trees, nil for none
	Mixed       bool               // whether programs for another architecture are meant
	TargetDir   string             // where [Create] puts the results; made if missing
	Container   image.ContainerOptions
	Settings    Settings
	Signing     *image.Signing // nil does not sign
	Repro       repro.Source
	Progress    progress.Reporter // nil shows nothing
	Log         *slog.Logger      // nil drops it
}

// Settings are those of a machine or a person, for all images.
type Settings struct {
	// XZ is arguments for the program xz, where it is to compress what is a .xz; empty for our own writer.
	XZ []string
	// BundleCompress is [image.Request.BundleCompress].
	BundleCompress *bool
	// MaxSize is how many bytes a file of an image may have; 0 is no bound.
	MaxSize int64
	// NoChanges leaves out the list of package changes.
	NoChanges bool
}

// TooLargeError says that an image is larger than the settings allow.
type TooLargeError struct {
	File      string
	Size, Max int64 // bytes
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s has %s (%d bytes), and max_size of build_constraints in the runtime configuration allows %s (%d bytes); leave something out of the image, or allow more",
		e.File, progress.FormatBytes(e.Size), e.Size, progress.FormatBytes(e.Max), e.Max)
}

// Extra is a file that goes with the results, such as a report of what was built from. It gets a line in SHA256SUMS and none in
// kiwi.result.json.
type Extra struct {
	Name string
	Data []byte
}

// Results are the files of one build, the images first.
type Results struct {
	Files []results.File `json:"files"`
}

func (o CreateOptions) request() (*image.Request, Type, error) {
	if o.Description == nil {
		return nil, Type{}, errors.New("building an image: no description given")
	}
	t, err := Lookup(o.Description.Type.Image)
	if err != nil {
		return nil, Type{}, o.Description.Type.Errorf("image", "", "%v", err)
	}
	if o.Description.Type.XenMachine() {
		t.Builder = guest.Builder{Image: t.Builder}
	}
	tree := o.Tree
	if tree != nil {
		if err := o.checkArchitecture(tree, o.Description); err != nil {
			return nil, Type{}, err
		}
		if tree, err = withoutExcluded(tree); err != nil {
			return nil, Type{}, err
		}
	}
	r := &image.Request{
		Tree: tree, Description: o.Description, Base: o.Base, Runner: o.Runner, Container: o.Container, XZ: o.Settings.XZ, BundleCompress: o.Settings.BundleCompress, Signing: o.Signing, BaseName: results.BaseName(o.Description),
		Repro: o.Repro.With("image type "+t.Name, o.Description.Name, o.Description.Version), Progress: o.Progress, Log: o.Log,
	}
	return r, t, nil
}

// Check refuses what can't be built. Without a tree it checks what needs none: the description and the programs on this machine.
func Check(ctx context.Context, o CreateOptions) error {
	r, t, err := o.request()
	if err != nil {
		return err
	}
	return t.Builder.Check(ctx, r)
}

// Plan says in a few lines what [Batch.Build] would build.
func Plan(ctx context.Context, o CreateOptions) (string, error) {
	r, t, err := o.request()
	if err != nil {
		return "", err
	}
	if r, err = r.Filled(); err != nil {
		return "", err
	}
	if err := t.Builder.Check(ctx, r); err != nil {
		return "", err
	}
	return t.Builder.Plan(ctx, r)
}
