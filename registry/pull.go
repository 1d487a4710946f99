package registry

import (
	"context"
	"errors"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/remote"
	"github.com/imgbuild/imgbuild/registry/store"
)

// blobStore is where pulled blobs go.
type blobStore struct {
	*store.Store
	arriving func(digest.Digest, Blob) // is told of each layer that begins to come; may be nil
}

// Partial implements [remote.BlobStore].
func (b blobStore) Partial(ctx context.Context, desc v1.Descriptor) (remote.Partial, error) {
	p, err := b.Store.Partial(ctx, desc)
	if errors.Is(err, store.ErrBlobExists) {
		return nil, remote.ErrBlobExists
	}
	if err != nil {
		return nil, err
	}
	if b.arriving == nil || desc.MediaType.IsConfig() {
		return p, nil
	}
	watched, err := watch(p, desc, b.arriving)
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("reading blob %s while it comes: %w", desc.Digest, err)
	}
	return watched, nil
}

// remotes returns the names under which registries are asked for a container, the first first.
func remotes(ref reference.Reference, opts FetchOptions) ([]reference.Reference, error) {
	if !ref.IsShort() || len(opts.From) == 0 {
		return []reference.Reference{ref}, nil
	}
	var refs []reference.Reference
	for _, from := range opts.From {
		full, err := ref.In(from)
		if err != nil {
			return nil, err
		}
		refs = append(refs, full)
	}
	return refs, nil
}

// eachRemote calls fn with each name until it succeeds. Only what a registry has said leads on to the next.
func eachRemote(ref reference.Reference, opts FetchOptions, fn func(reference.Reference) error) error {
	refs, err := remotes(ref, opts)
	if err != nil {
		return err
	}
	var last error
	for _, full := range refs {
		err := fn(full)
		if err == nil {
			return nil
		}
		if last != nil {
			err = fmt.Errorf("%w; %w", last, err)
		}
		if last = err; !errors.As(err, new(*remote.Error)) {
			break
		}
	}
	if errors.Is(last, remote.ErrNotFound) {
		return notFoundError{last}
	}
	return last
}

// notFoundError is a registry's answer that is [ErrNotFound].
type notFoundError struct{ error }

func (e notFoundError) Unwrap() error        { return e.error }
func (e notFoundError) Is(target error) bool { return target == ErrNotFound }

// pull brings a container from a registry into the store, under its full name.
func (c *Client) pull(ctx context.Context, ref reference.Reference, opts FetchOptions) (*Image, error) {
	client, err := c.remote()
	if err != nil {
		return nil, err
	}
	layout, arriving := c.layout, opts.Arriving
	if layout == nil { // podman keeps no blobs, so they lie in a store of their own for the time being
		dir, err := os.MkdirTemp("", "imgbuild-pull-")
		if err != nil {
			return nil, fmt.Errorf("pulling %s: %w", ref, err)
		}
		defer os.RemoveAll(dir)
		arriving = nil // podman's layers are other ones
		if layout, err = store.Open(dir, store.Options{Progress: c.opts.Progress, Log: c.opts.Log}); err != nil {
			return nil, err
		}
		defer layout.Close()
	}
	var pulled *remote.Pulled
	err = eachRemote(ref, opts, func(full reference.Reference) error {
		var err error
		pulled, err = client.Pull(ctx, full, blobStore{layout, arriving}, opts.Platform)
		return err
	})
	if err != nil {
		return nil, err
	}
	img, err := manifest.New(pulled.RawManifest, pulled.RawConfig, func(desc v1.Descriptor) (manifest.Blob, error) {
		return layout.Blob(digest.Digest(desc.Digest.String()))
	})
	if err != nil {
		return nil, fmt.Errorf("pulling %s: %w", ref, err)
	}
	name := storeName(pulled.Reference)
	err = c.store.Update(ctx, name, func(context.Context, v1.Image) (v1.Image, error) { return img, nil })
	if err != nil {
		return nil, err
	}
	stored, err := c.store.Image(ctx, name)
	if err != nil {
		return nil, err
	}
	return newImage(stored, name, pulled.Reference.Domain, c.store)
}

// FetchPlan says what Fetch would do.
type FetchPlan struct {
	Name      string        `json:"name"`       // of the container in a store or registry
	Where     string        `json:"where"`      // "store", "podman", a registry, or an archive's transport
	Local     bool          `json:"local"`      // it is on this machine, so that Fetch asks no registry
	Digest    digest.Digest `json:"digest"`     // of its manifest as it is there
	Layers    int           `json:"layers"`     // how many
	Size      int64         `json:"size"`       // bytes of all layers
	PullBytes int64         `json:"pull_bytes"` // how many of them are not on this machine yet
}

// Plan says what Fetch would do, without doing it: of a container in a registry nothing but the manifest is read.
func (c *Client) Plan(ctx context.Context, name string, opts FetchOptions) (*FetchPlan, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	if opts.Pull == "" {
		opts.Pull = PullMissing
	}
	if ref.Transport == reference.None || ref.Transport == reference.Docker {
		if _, missing := c.local(ctx, ref, opts); errors.Is(missing, ErrNotFound) && opts.Pull != PullNever {
			plan, err := c.planPull(ctx, ref, opts)
			return plan, alsoHere(err, missing)
		}
	}
	img, err := c.Fetch(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	plan := &FetchPlan{Name: img.Name, Where: img.From, Local: true, Digest: img.Digest, Layers: len(m.Layers)}
	for _, l := range m.Layers {
		plan.Size += l.Size
	}
	return plan, nil
}

func (c *Client) planPull(ctx context.Context, ref reference.Reference, opts FetchOptions) (*FetchPlan, error) {
	client, err := c.remote()
	if err != nil {
		return nil, err
	}
	var found *remote.Resolved
	err = eachRemote(ref, opts, func(full reference.Reference) error {
		var err error
		found, err = client.Resolve(ctx, full, opts.Platform)
		return err
	})
	if err != nil {
		return nil, err
	}
	plan := &FetchPlan{
		Name: storeName(found.Reference), Where: found.Reference.Domain,
		Digest: digest.Digest(found.Manifest.Digest.String()), Layers: len(found.Layers),
	}
	for _, l := range found.Layers {
		plan.Size += l.Size
		if c.layout != nil {
			if b, err := c.layout.Blob(digest.Digest(l.Digest.String())); err == nil {
				b.Close()
				continue
			}
		}
		plan.PullBytes += l.Size
	}
	return plan, nil
}
