package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/sums"
	"github.com/imgbuild/imgbuild/layers"
)

// Builder builds the image types that are a single file system. It implements [image.Builder].
type Builder struct{}

const mebibyte = 1 << 20

// SpareSpace is how many bytes stay free in a file system that is made as large as needed and written to later: a tenth of the content, at
// least 64 MiB.
func SpareSpace(tree *layers.Tree) int64 { return max(64*mebibyte, tree.Stats().Data/10) }

// CheckTree refuses what can't be fulfilled for this tree, like [Check], and a machine without a helper kernel where one is needed.
func CheckTree(tree *layers.Tree, spec Spec) error {
	if err := Check(spec); err != nil {
		return err
	}
	switch spec.Type {
	case "xfs", "btrfs", "reiserfs":
	case "cramfs":
		return checkCramfsTree(tree)
	case "squashfs":
		return checkSquashfsTree(tree)
	case "erofs":
		return checkErofsTree(tree)
	default:
		return nil
	}
	if err := kernelFor(spec.Type, kernels(tree)); err != nil {
		return fmt.Errorf("making the %s file system: %w", spec.Type, err)
	}
	return checkKernelTree(tree, spec.Type)
}

// Compression is that of the root file system, if it is one of the compressed ones.
func Compression(t *description.Type) string {
	if t.Filesystem == "erofs" {
		return t.ErofsCompression
	}
	return t.SquashfsCompression
}

// Check implements [image.Builder].
func (Builder) Check(ctx context.Context, r *image.Request) error {
	t := &r.Description.Type
	if t.LUKS != nil {
		return t.Errorf("luks", "leave it out, or build a disk (image=\"oem\")", "an encrypted file system image can't be built yet")
	}
	return CheckImage(ctx, r, t.Image)
}

// Plan implements [image.Builder].
func (Builder) Plan(ctx context.Context, r *image.Request) (string, error) {
	r, err := r.Filled()
	if err != nil {
		return "", err
	}
	tree, err := image.WithoutBuildFiles(r.Tree)
	if err != nil {
		return "", err
	}
	size := "as large as the compressed content"
	if !isPacked(r.Description.Type.Image) {
		spec, err := SpecOf(&r.Description.Type, r.Description.Type.Image)
		if err != nil {
			return "", err
		}
		n, err := ImageSize(ctx, env(r, ""), &r.Description.Type, tree, spec)
		if err != nil {
			return "", err
		}
		size = progress.FormatBytes(n)
	}
	return fmt.Sprintf("file system: %s, %s, %d entries\n", fileName(r), size, tree.Stats().Entries), nil
}

// Observes implements [image.Observing].
func (Builder) Observes(r *image.Request) bool {
	spec, err := SpecOf(&r.Description.Type, r.Description.Type.Image)
	return err == nil && Observes(spec)
}

// isPacked reports whether a file system is compressed, and as large as its content.
func isPacked(kind string) bool { return kind == "squashfs" || kind == "erofs" || kind == "cramfs" }

func fileName(r *image.Request) string { return r.BaseName + "." + r.Description.Type.Image }

func env(r *image.Request, workdir string) Env {
	return Env{Repro: r.Repro, Log: r.Log, Progress: r.Progress, Workdir: workdir, Observe: r.Observe}
}

// Build implements [image.Builder]: it writes BaseName.TYPE.
func (Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	tree, err := image.WithoutBuildFiles(r.Tree)
	if err != nil {
		return nil, err
	}
	spec, err := SpecOf(&r.Description.Type, r.Description.Type.Image)
	if err != nil {
		return nil, err
	}
	scratch, remove, err := r.Scratch("filesystem")
	if err != nil {
		return nil, err
	}
	defer remove()
	name := fileName(r)
	f, err := os.OpenFile(filepath.Join(r.Dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("building a file system: %w", err)
	}
	follower, err := sums.Follow(ctx, f.Name(), r.Progress)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("building a file system: %w", err)
	}
	following := env(r, scratch)
	following.Written = follower.Written
	size, err := CreateImage(ctx, following, f, &r.Description.Type, tree, spec)
	if err != nil {
		size = 0 // nobody wants the sum
	}
	sum, followErr := follower.Finish(size)
	if err = errors.Join(err, followErr, f.Close()); err != nil {
		return nil, err
	}
	return []image.Artifact{{Key: image.KeyFilesystemImage, File: name, Compress: r.Compress(true), UseForBundle: true, SHA256: sum}}, nil
}

// CreateImage makes the file system of a new file that holds nothing else, with the size that the description asks for or the content needs, and returns that
// size in bytes.
func CreateImage(ctx context.Context, env Env, f *os.File, t *description.Type, tree *layers.Tree, spec Spec) (_ int64, err error) {
	if spec.Type == "squashfs" && fixedSize(t, spec.Type) == 0 {
		return Create(ctx, env, f, tree, spec)
	}
	if env.Cache == nil {
		env.Cache = &Cache{}
		defer func() { err = errors.Join(err, env.Cache.Close()) }()
	}
	size, err := ImageSize(ctx, env, t, tree, spec)
	if err != nil {
		return 0, SizeError(t, err)
	}
	return size, SizeError(t, Write(ctx, env, f, 0, size, tree, spec))
}
