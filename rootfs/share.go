package rootfs

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"reflect"
	"slices"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// Shared is a root tree with what several image types have in common, from which each goes on by itself. What is made so has the same bytes as what
// [Overlay] makes for each type alone.
type Shared struct {
	common *overlay
	tree   *layers.Tree
	// configured says that the description has no config.sh, so that the end of the making is the same for all of them too.
	configured bool
}

// CanShare reports whether the root trees of two image types of one description begin alike: they want the same packages, and no script runs on the way, which may ask for
// the type.
func CanShare(a, b *description.Image) bool {
	return reflect.DeepEqual(a.Packages, b.Packages) && !hasScript(a, scripts.PostBootstrap)
}

// hasScript reports whether a description has a script.
func hasScript(image *description.Image, name string) bool {
	if image.FS == nil {
		return false
	}
	_, err := fs.Stat(image.FS, name)
	return !errors.Is(err, fs.ErrNotExist)
}

// Share does what is the same for image types that can share, of which request's is one. The request's directory, if something had to be
// unpacked there, is the caller's to remove when no tree made of this one is used any more.
func Share(ctx context.Context, request Request) (*Shared, error) {
	o := newOverlay(request)
	s := &Shared{common: o, configured: len(o.Description.Drivers) == 0 && !hasScript(o.Description, scripts.Config)}
	steps := o.commonSteps()
	if s.configured {
		steps = slices.Concat(steps, o.configSteps())
	}
	if err := o.take(ctx, steps); err != nil {
		return nil, err
	}
	var err error
	s.tree, err = o.work.current(ctx)
	return s, err
}

// Tree is what the image types have in common.
func (s *Shared) Tree() *layers.Tree { return s.tree }

// Overlay goes on for one image type. The tree of the request is the one that sharing began with; its directory is one of its own, into which the tree is
// unpacked if programs must run for this type. It is safe for concurrent use.
func (s *Shared) Overlay(ctx context.Context, request Request) (*Result, error) {
	o := newOverlay(request)
	o.work.tree = s.tree
	o.installed, o.described, o.imported = s.common.installed, s.common.described, maps.Clone(s.common.imported)
	o.ran, o.packagesDone = slices.Clone(s.common.ran), slices.Clone(s.common.packagesDone)
	steps := o.typeSteps()
	if !s.configured {
		steps = slices.Concat(steps, o.configSteps())
	}
	if request.Phase != Prepare {
		steps = slices.Concat(steps, o.createSteps())
	}
	return o.do(ctx, slices.Concat(steps, o.lastSteps()))
}

// Leave gives the directory of the shared tree to the result of one type, which has none of its own, so that [Result.Sync] needs not write all of the
// tree once more. It returns the directory, "" if there is nothing to give. No other tree made of the shared one can be read after that.
func (s *Shared) Leave(r *Result) string {
	from, to := s.common.work, r.overlay.work
	if from.onDisk == nil || to.onDisk != nil {
		return ""
	}
	to.dir, to.onDisk, to.lacking = from.dir, from.onDisk, from.lacking
	r.Dir = from.dir
	return from.dir
}
