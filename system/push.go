package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// Push says which registry gets the container that is built.
type Push struct {
	// To is where it goes. Without a tag it gets all tags that the description gives the container.
	To reference.Reference
	// NoArchive leaves the container's archive out of the results.
	NoArchive bool
}

// isContainer reports whether the job builds a container.
func (j *job) isContainer() bool {
	return j.image.Type.Image == "docker" || j.image.Type.Image == "oci"
}

// container is how the job's container is packed and kept.
func (j *job) container() image.ContainerOptions {
	opts := j.Container
	if j.Push != nil && j.isContainer() {
		opts.Keep, opts.NoArchive = true, j.Push.NoArchive
	}
	return opts
}

// pushing is the job whose container is pushed, nil if none is to be.
func (p *pass) pushing() (*job, error) {
	to := p.lead().Push
	if to == nil {
		return nil, nil
	}
	var found []*job
	for _, j := range p.jobs {
		if j.isContainer() {
			found = append(found, j)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("pushing to %s: the image type %s is no container; choose one with --type oci", to.To, strings.Join(typeNames(p.jobs), ","))
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("pushing to %s: the image types %s make two containers of the same content; leave one out", to.To, strings.Join(typeNames(p.jobs), ","))
}

// checkPush refuses what can't be pushed, and asks the registry for leave, before anything is done.
func (p *pass) checkPush(ctx context.Context) error {
	j, err := p.pushing()
	if err != nil || j == nil {
		return err
	}
	client, err := j.Client()
	if err != nil {
		return err
	}
	return client.CheckPush(ctx, j.Push.To)
}

// push sends the container of a batch to its registry.
func (p *pass) push(ctx context.Context, batch *imagetypes.Batch) ([]registry.Pushed, error) {
	j, err := p.pushing()
	if err != nil || j == nil {
		return nil, err
	}
	built := batch.Container()
	if built == nil {
		return nil, errors.New("pushing: no container was built")
	}
	client, err := j.Client()
	if err != nil {
		return nil, err
	}
	return client.PushImage(ctx, built.Image, j.Push.To, j.tags(built.Names), j.image.Type.DerivedFrom...)
}

// tags are those that a container gets in a registry: the one that the user gives, or else those of its own name. Its other names are for other repositories.
func (j *job) tags(names []string) []string {
	if j.Push.To.Tag != "" {
		return []string{j.Push.To.Tag}
	}
	own, _, _ := cutTag(names[0])
	var tags []string
	for _, full := range names {
		switch name, tag, _ := cutTag(full); {
		case name != own:
			j.Log.Info("a name of the container that is none of the repository's is not pushed", "name", full)
		case !slices.Contains(tags, tag):
			tags = append(tags, tag)
		}
	}
	return tags
}

// cutTag parts a name from its tag.
func cutTag(full string) (name, tag string, ok bool) {
	at := strings.LastIndex(full, ":")
	if at < 0 || strings.Contains(full[at:], "/") {
		return full, "", false
	}
	return full[:at], full[at+1:], true
}

// notPushed is the error of a push that has failed after the results were complete: what is done can be pushed again.
func notPushed(err error, to *Push, made *imagetypes.Results) error {
	for _, f := range made.Files {
		for kind, transport := range map[string]reference.Transport{"docker": reference.DockerArchive, "oci": reference.OCIArchive} {
			if f.Type == kind && f.Key == image.KeyContainer && strings.HasSuffix(f.Path, ".tar") {
				return fmt.Errorf("%w; the results are complete: push the container with imgbuild push %s:%s %s", err, transport, f.Path, to.To)
			}
		}
	}
	return err
}
