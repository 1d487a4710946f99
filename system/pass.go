package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs"
)

// AllTypes, among the image types of [Options], stands for all types of the description's chosen profiles.
const AllTypes = "all"

// maxAtOnce bounds how many images are made side by side, as each takes memory.
const maxAtOnce = 4

// pass is one run of a command that makes images: a job for each image type, the first of which does what they have in common.
type pass struct {
	jobs     []*job
	progress progress.Reporter // of what is for all of them
	log      *slog.Logger

	keeping sync.Mutex
	kept    []*layers.Kept // contents that several types read
}

// newPass begins a run. Existing says that there may be a root tree to start from.
func newPass(o Options, existing bool) (*pass, error) {
	lead, err := newJob(o, existing)
	if err != nil {
		return nil, err
	}
	p := &pass{jobs: []*job{lead}, progress: lead.Progress, log: lead.Log}
	return p, p.spread()
}

// close ends the use of containers.
func (p *pass) close() error {
	var errs []error
	for _, j := range slices.Backward(p.jobs) {
		errs = append(errs, j.close())
	}
	return errors.Join(errs...)
}

// lead is the job of the first image type.
func (p *pass) lead() *job { return p.jobs[0] }

// spread makes the jobs of the other image types as soon as the description is known, and refuses types whose images would have one name.
func (p *pass) spread() error {
	lead := p.lead()
	if lead.image == nil || len(lead.types) < 2 || len(p.jobs) > 1 {
		return nil
	}
	for _, name := range lead.types[1:] {
		j := &job{Options: lead.Options, inTree: lead.inTree, warned: lead.warned}
		j.Selection.Type, j.types = name, lead.types
		if err := j.resolve(lead.doc); err != nil {
			return err
		}
		p.jobs = append(p.jobs, j)
	}
	var images []*description.Image
	for _, j := range p.jobs {
		j.Progress, j.Log = progress.Prefixed(j.Progress, j.image.Type.Image), j.Log.With("type", j.image.Type.Image)
		images = append(images, j.image)
	}
	return imagetypes.CheckTogether(images)
}

// typeNames are the image types of jobs.
func typeNames(jobs []*job) []string {
	var names []string
	for _, j := range jobs {
		names = append(names, j.image.Type.Image)
	}
	return names
}

// check refuses what can't be built, before anything is fetched.
func (p *pass) check(ctx context.Context, target string) error {
	if p.lead().image == nil {
		return nil
	}
	for _, j := range p.jobs {
		if err := j.check(ctx, target); err != nil {
			return p.of(j, err)
		}
	}
	if p.lead().Signing != nil && !slices.Contains(typeNames(p.jobs), "appx") {
		return fmt.Errorf("signing: nothing is signed of the image type %s; leave --sign-... out, or choose --type appx", strings.Join(typeNames(p.jobs), ","))
	}
	if p.lead().Container.Compression != nil && !slices.ContainsFunc(p.jobs, (*job).isContainer) {
		return fmt.Errorf("--container-compression: the image type %s is no container; leave it out, or choose --type oci", strings.Join(typeNames(p.jobs), ","))
	}
	return p.checkPush(ctx)
}

// of names the image type that an error is about, where there are several.
func (p *pass) of(j *job, err error) error {
	if err == nil || len(p.jobs) == 1 {
		return err
	}
	return fmt.Errorf("image type %s: %w", j.image.Type.Image, err)
}

// start finds the trees that the types start from. Types that are derived from different containers start from different ones.
func (p *pass) start(ctx context.Context, existing string) error {
	lead := p.lead()
	if err := lead.start(ctx, existing); err != nil {
		return p.of(lead, err)
	}
	if err := p.spread(); err != nil {
		return err
	}
	return p.startOthers(ctx, existing != "" || len(lead.Stack.Containers) > 0)
}

// openBases fetches, for a root tree that is there, the containers that the types are derived from.
func (p *pass) openBases(ctx context.Context) error {
	if err := p.lead().openBase(ctx); err != nil {
		return p.of(p.lead(), err)
	}
	return p.startOthers(ctx, true)
}

func (p *pass) startOthers(ctx context.Context, given bool) error {
	lead := p.lead()
	for _, j := range p.jobs[1:] {
		if err := j.startAs(ctx, lead, given); err != nil {
			return p.of(j, err)
		}
	}
	return nil
}

// startAs starts from what another job has started from, where that is the same. Given says that it is in any case.
func (j *job) startAs(ctx context.Context, other *job, given bool) error {
	same := slices.Equal(j.image.Type.DerivedFrom, other.image.Type.DerivedFrom)
	if !given && !same {
		return j.start(ctx, "")
	}
	j.tree, j.stack, j.found = other.tree, other.stack, other.found
	if same || len(j.Stack.Containers) > 0 {
		j.base, j.known, j.used.Containers = other.base, other.known, slices.Clone(other.used.Containers)
		return nil
	}
	j.known = j.found
	return j.openBase(ctx)
}

// root is the root tree of one image type or of several, which it is made for together as far as they agree.
type root struct {
	jobs   []*job
	shared *rootfs.Shared // nil where nothing is shared
}

// roots sorts the jobs by the root trees that they can share.
func (p *pass) roots(phase rootfs.Phase) []*root {
	var list []*root
next:
	for _, j := range p.jobs {
		for _, r := range list {
			first := r.jobs[0]
			if phase != rootfs.Create && j.tree == first.tree && slices.Equal(j.used.Containers, first.used.Containers) && rootfs.CanShare(first.image, j.image) {
				r.jobs = append(r.jobs, j)
				continue next
			}
		}
		list = append(list, &root{jobs: []*job{j}})
	}
	return list
}

// images makes the root tree of each type and the image of it, side by side, and then puts all results into their place.
func (p *pass) images(ctx context.Context, phase rootfs.Phase, work *workplace, target string) (built *Built, roots []*root, err error) {
	batch, err := imagetypes.Begin(target, len(p.jobs))
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, batch.Discard()) }()
	defer func() { err = errors.Join(err, p.giveUp()) }()
	roots = p.roots(phase)
	if tree := p.lead().tree; len(roots) > 1 && roots[1].jobs[0].tree == tree {
		p.keep(ctx, tree)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, min(runtime.GOMAXPROCS(0), maxAtOnce))
	for i, r := range roots {
		group.Go(func() error { return p.imagesOf(groupCtx, r, i, phase, work, batch, slots) })
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	built, err = p.publish(ctx, batch)
	return built, roots, err
}

// publish pushes the container that is to be pushed, and puts all results into their place. If the push fails they are complete nevertheless, unless the container is
// not to be among them.
func (p *pass) publish(ctx context.Context, batch *imagetypes.Batch) (*Built, error) {
	lead := p.lead()
	extra, err := p.extra()
	if err != nil {
		return nil, err
	}
	pushed, pushErr := p.push(ctx, batch)
	if pushErr != nil && (lead.Push.NoArchive || ctx.Err() != nil) {
		return nil, pushErr
	}
	made, err := batch.Publish(ctx, extra)
	switch {
	case err != nil:
		return nil, errors.Join(pushErr, err)
	case pushErr != nil:
		return nil, notPushed(pushErr, lead.Push, made)
	}
	return &Built{Results: made, Pushed: pushed}, lead.writeLock(extra[0].Data)
}

// imagesOf makes the images of one root tree. What takes a processor takes a slot.
func (p *pass) imagesOf(ctx context.Context, r *root, number int, phase rootfs.Phase, work *workplace, batch *imagetypes.Batch, slots chan struct{}) error {
	inSlot := func(run func() error) error {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			return run()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if len(r.jobs) > 1 {
		err := inSlot(func() error {
			dir, err := work.makePlace(fmt.Sprintf("shared-%d", number))
			if err != nil {
				return err
			}
			if r.shared, err = p.share(ctx, r, phase, dir); err == nil {
				p.keep(ctx, r.shared.Tree())
			}
			return err
		})
		if err != nil && len(r.jobs) < len(p.jobs) {
			return fmt.Errorf("image types %s: %w", strings.Join(typeNames(r.jobs), ", "), err)
		}
		if err != nil {
			return err
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, j := range r.jobs {
		group.Go(func() error {
			return p.of(j, inSlot(func() error {
				dir, err := p.placeOf(j, work)
				if err != nil {
					return err
				}
				if j.result, err = j.overlay(groupCtx, r.shared, phase, dir); err != nil {
					return err
				}
				return j.build(groupCtx, batch, slices.Index(p.jobs, j))
			}))
		})
	}
	return group.Wait()
}

// placeOf is where in the workplace the tree of a job is unpacked: that of the first one stays.
func (p *pass) placeOf(j *job, work *workplace) (string, error) {
	if j == p.lead() {
		return work.unpackTo(), nil
	}
	return work.makePlace(j.image.Type.Image)
}

// share makes what the types of a root have in common.
func (p *pass) share(ctx context.Context, r *root, phase rootfs.Phase, dir string) (*rootfs.Shared, error) {
	p.log.Info("building what the image types " + strings.Join(typeNames(r.jobs), ", ") + " have in common")
	request := r.jobs[0].request(phase, dir)
	request.Progress, request.Log = p.progress, p.log
	return rootfs.Share(ctx, request)
}

// keep lets several types that read one tree decompress its layers together, where there is room for what comes of that.
func (p *pass) keep(ctx context.Context, tree *layers.Tree) {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	kept, err := layers.KeepContents(ctx, tree)
	if err != nil {
		p.log.Info("each image type decompresses the layers by itself", "error", err)
		return
	}
	p.kept = append(p.kept, kept)
}

// giveUp gives up what is kept.
func (p *pass) giveUp() error {
	var errs []error
	for _, k := range p.kept {
		errs = append(errs, k.Close())
	}
	p.kept = nil
	return errors.Join(errs...)
}

// leave puts the root tree of the first image type into its place, as if that were built alone, unless nothing had to be unpacked and none was there.
func (p *pass) leave(ctx context.Context, roots []*root, work *workplace, was bool) error {
	lead := p.lead()
	if shared := roots[0].shared; shared != nil {
		if dir := shared.Leave(lead.result); dir != "" {
			if err := lead.result.Sync(ctx); err != nil {
				return err
			}
			if err := os.Rename(dir, work.unpackTo()); err != nil {
				return fmt.Errorf("keeping the root tree: %w", err)
			}
		}
	}
	if lead.result.Dir == "" && !was {
		return work.vacate()
	}
	return lead.leaveTree(ctx, lead.result, work)
}

// createPlace is where a copy of a root tree is unpacked that images are made of. Nothing ever has this name.
func (p *pass) createPlace(target string) string {
	return filepath.Join(target, filepath.Dir(RootDir), "create-"+strings.Join(typeNames(p.jobs), "-"))
}
