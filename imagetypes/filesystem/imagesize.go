package filesystem

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
)

// TooSmallError says that a file system can't have the size that is asked for. Sizes are in bytes.
type TooSmallError struct {
	Type  string
	Size  int64
	Need  int64
	About bool // the need is an estimate
}

// Error implements error.
func (e *TooSmallError) Error() string {
	about := ""
	if e.About {
		about = "about "
	}
	return fmt.Sprintf("%s are too small: the %s file system needs %s%s", progress.FormatBytes(e.Size), e.Type, about, progress.FormatBytes(e.Need))
}

// smallest returns the least size in bytes of an empty file system that only a kernel fills, 0 for others.
func smallest(kind string) int64 {
	return map[string]int64{"xfs": minXFS, "btrfs": leastBtrfs, "reiserfs": minRei}[kind]
}

// fixedSize returns the size of an image in bytes if the description fixes it, or else 0.
func fixedSize(t *description.Type, kind string) int64 {
	if t.Size == nil || t.Size.Additive || t.Image == kind && isPacked(kind) { // which then says that <size> has no effect
		return 0
	}
	return t.Size.MB * mebibyte
}

// CheckImage refuses what can't be built of a file system that is a file of its own: the settings of the description and, if there is one, the root tree.
func CheckImage(ctx context.Context, r *image.Request, kind string) error {
	t := &r.Description.Type
	spec, err := SpecOf(t, kind)
	if err != nil {
		return err
	}
	var tree *layers.Tree
	if r.Tree == nil {
		err = Check(spec)
	} else {
		if tree, err = image.WithoutBuildFiles(r.Tree); err == nil {
			err = CheckTree(tree, spec)
		}
	}
	place := "filesystem"
	if kind == t.Image {
		place = "image"
	}
	if err := At(t, place, err); err != nil {
		return err
	}
	if err := CheckOptions(ctx, t, spec); err != nil {
		return err
	}
	return CheckSize(ctx, env(r, r.Workdir), t, tree, spec)
}

// At puts an error of [Check] or [CheckTree] at an attribute of the description, unless it is this machine that lacks something.
func At(t *description.Type, attribute string, err error) error {
	var missing *command.MissingError
	var unavailable *helperkernel.UnavailableError
	if err == nil || errors.As(err, &missing) || errors.As(err, &unavailable) {
		return err
	}
	return t.Errorf(attribute, "", "%v", err)
}

// CheckSize refuses a size of the description that is too small for the file system or, if there is a tree, for its content.
func CheckSize(ctx context.Context, env Env, t *description.Type, tree *layers.Tree, spec Spec) error {
	size := fixedSize(t, spec.Type)
	if size == 0 {
		return nil
	}
	need := smallest(spec.Type)
	if tree != nil && size >= need {
		switch {
		case strings.HasPrefix(spec.Type, "ext"):
			var err error
			if need, err = Size(ctx, env, tree, spec); err != nil {
				return err
			}
		case !isPacked(spec.Type) && !strings.Contains(spec.mountOptions(), "compress"):
			need = max(need, alignUp(tree.Stats().Data))
		}
	}
	if need > size {
		return SizeError(t, &TooSmallError{Type: spec.Type, Size: size, Need: need})
	}
	return nil
}

// SizeError puts a [*TooSmallError] at the place of the size in the description, and a [*TooLargeError] at that of the image type. It returns other errors
// as they are.
func SizeError(t *description.Type, err error) error {
	var large *TooLargeError
	if errors.As(err, &large) {
		return t.Errorf("image", "use squashfs or erofs", "%v", large)
	}
	var small *TooSmallError
	if t.Size == nil || !errors.As(err, &small) {
		return err
	}
	return t.Size.Errorf("", "make it larger, or leave <size> out", "%v", small)
}

// noSpace turns the failure of a helper kernel that has found no space left into a [*TooSmallError].
func noSpace(ctx context.Context, env Env, tree *layers.Tree, spec Spec, size int64, err error) error {
	var script *helperkernel.ScriptError
	if !errors.As(err, &script) || !strings.Contains(script.Output, "No space left on device") {
		return err
	}
	need, sizing := Size(ctx, env, tree, spec)
	if sizing != nil {
		return err
	}
	return &TooSmallError{Type: spec.Type, Size: size, Need: need, About: true}
}

// ImageSize returns the size in bytes of a file that holds nothing but the file system: what the description asks for, or what the content needs with
// [SpareSpace]. A compressed file system is as large as its content, in whole blocks of 4 KiB.
func ImageSize(ctx context.Context, env Env, t *description.Type, tree *layers.Tree, spec Spec) (int64, error) {
	if size := fixedSize(t, spec.Type); size > 0 {
		return size, nil
	}
	if isPacked(spec.Type) {
		size, err := contentSize(ctx, env, tree, spec, "writing the")
		if err != nil {
			return 0, err
		}
		const block = 4096
		return (size + block - 1) / block * block, nil
	}
	spec.Free = SpareSpace(tree)
	if t.Size != nil {
		spec.Free = t.Size.MB * mebibyte
	}
	return Size(ctx, env, tree, spec)
}
