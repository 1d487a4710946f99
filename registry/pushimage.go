package registry

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/remote"
)

// Pushed is a container as it is in a registry.
type Pushed struct {
	Name   string        `json:"name"`   // full, with its tag
	Digest digest.Digest `json:"digest"` // of its manifest
}

// Destination is a full name in a registry, with docker:// before it or not. That it has none is an error.
func Destination(name string) (reference.Reference, error) {
	ref, err := reference.Parse(name)
	switch {
	case err != nil:
		return ref, err
	case !ref.IsRemote():
		return ref, fmt.Errorf("pushing to %s: it names no registry, as registry.example.org/%s does", name, ref.Repository)
	case ref.Digest != "":
		return ref, fmt.Errorf("pushing to %s: it has a digest, which the container gets when it is built; give a tag or nothing", name)
	}
	ref.Transport = reference.None
	return ref, nil
}

// CheckPush finds out whether a container may be pushed to a [Destination], before there is one.
func (c *Client) CheckPush(ctx context.Context, to reference.Reference) error {
	client, err := c.remote()
	if err != nil {
		return err
	}
	return client.CheckPush(ctx, to)
}

// PushImage sends a container that is in no store to a registry, under each of the tags of a [Destination]'s repository. What the registry has is not
// sent, and what the containers of other names in it have is linked from there.
func (c *Client) PushImage(ctx context.Context, img v1.Image, to reference.Reference, tags []string, like ...string) ([]Pushed, error) {
	client, err := c.remote()
	if err != nil {
		return nil, err
	}
	var opts remote.PushOptions
	for _, name := range like {
		if from, err := reference.Parse(name); err == nil && from.IsRemote() {
			from.Transport = reference.None
			opts.MountFrom = append(opts.MountFrom, from)
		}
	}
	var pushed []Pushed
	for _, tag := range tags {
		to.Tag = tag
		sum, err := client.Push(ctx, img, to, opts)
		if err != nil {
			return pushed, err
		}
		pushed = append(pushed, Pushed{to.String(), digest.Digest(sum.String())})
	}
	return pushed, nil
}
