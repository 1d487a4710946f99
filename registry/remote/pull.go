package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/registriesconf"
)

// Pulled is a container whose blobs are in a BlobStore.
type Pulled struct {
	Resolved
	// RawConfig is the config as it is in the registry.
	RawConfig []byte
	// Fetched and Reused are the bytes that came over the network in this pull, and those that were there before.
	Fetched, Reused int64
}

// localError is a failure on this side, which no other registry mends.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// Pull finds ref as Resolve does and brings its config and layers into the store, several at once, what is there already
// excepted. A mirror that fails on the way hands over to the next place. The manifest is not stored; the caller does so
// with RawManifest when all blobs are in.
func (c *Client) Pull(ctx context.Context, ref reference.Reference, into BlobStore, platform string) (*Pulled, error) {
	var pulled *Pulled
	err := c.eachEndpoint(ctx, ref, func(full reference.Reference, e registriesconf.Endpoint) error {
		resolved, err := c.resolveAt(ctx, "pulling", full, e, platform)
		if err != nil {
			return err
		}
		pulled, err = c.pullBlobs(ctx, resolved, into, platform)
		return err
	})
	if err != nil {
		return nil, err
	}
	return pulled, nil
}

// FetchConfig gets the config of a resolved container.
func (c *Client) FetchConfig(ctx context.Context, r *Resolved) ([]byte, error) {
	s, err := c.session(ctx, r.Endpoint, "pull")
	if err != nil {
		return nil, c.explain("reading", r.Endpoint, err)
	}
	data, err := c.fetchConfig(ctx, s, r.Config)
	return data, c.explain("reading", r.Endpoint, err)
}

func (c *Client) pullBlobs(ctx context.Context, r *Resolved, into BlobStore, platform string) (*Pulled, error) {
	p := &Pulled{Resolved: *r}
	s, err := c.session(ctx, r.Endpoint, "pull")
	if err != nil {
		return nil, c.explain("pulling", r.Endpoint, err)
	}
	p.RawConfig, err = c.fetchConfig(ctx, s, r.Config)
	if err != nil {
		return nil, c.explain("pulling", r.Endpoint, err)
	}
	if err := c.checkConfig(p, platform); err != nil {
		return nil, c.explain("pulling", r.Endpoint, err)
	}
	if err := storeBytes(ctx, into, r.Config, p.RawConfig); err != nil {
		return nil, err
	}
	p.Fetched += r.Config.Size
	layers := r.blobs()[1:]
	// The largest first, so that none of them is left alone at the end.
	slices.SortStableFunc(layers, func(a, b v1.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	var fetched, reused atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	for _, desc := range layers {
		group.Go(func() error {
			release, err := c.slot(groupCtx)
			if err != nil {
				return err
			}
			defer release()
			n, err := c.fetchBlob(groupCtx, s, desc, into)
			fetched.Add(n)
			reused.Add(max(0, desc.Size-n))
			if err != nil {
				return &partError{"layer " + short(desc.Digest), err}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, c.explain("pulling", r.Endpoint, err)
	}
	p.Fetched += fetched.Load()
	p.Reused = reused.Load()
	return p, nil
}

// checkConfig reads the config and notes its platform.
func (c *Client) checkConfig(p *Pulled, platform string) error {
	config, err := manifest.ParseConfig(p.RawConfig)
	if err != nil {
		return err
	}
	is := config.Platform()
	if is == nil {
		return nil
	}
	if p.Platform.Architecture == "" {
		p.Platform = normalPlatform(*is)
	}
	want, err := ParsePlatform(cmp.Or(platform, c.opts.Platform))
	if err != nil {
		return err
	}
	if p.Index == nil && is.Architecture != "" && rankPlatform(normalPlatform(*is), want) == 0 {
		c.log.Warn("the container is for another platform", "name", p.Reference.String(), "is", platformText(normalPlatform(*is)), "wanted", platformText(want))
	}
	return nil
}

// fetchConfig gets a config into memory; its size has been checked against the bound.
func (c *Client) fetchConfig(ctx context.Context, s *session, desc v1.Descriptor) ([]byte, error) {
	release, err := c.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if desc.Size > manifest.MaxConfigSize {
		return nil, fmt.Errorf("%w: the config has %d bytes, more than the %d allowed", ErrInvalid, desc.Size, manifest.MaxConfigSize)
	}
	var m memory
	d := download{client: c, session: s, desc: desc, part: &m, task: progress.Discard.Start("", 0, progress.Bytes)}
	if err := d.run(ctx); err != nil {
		return nil, &partError{"config " + short(desc.Digest), err}
	}
	return m.data, nil
}

// storeBytes puts a small blob that is in memory and verified into the store.
func storeBytes(ctx context.Context, into BlobStore, desc v1.Descriptor, data []byte) error {
	p, err := openPartial(ctx, into, desc)
	if p == nil || err != nil {
		return err
	}
	defer p.Close()
	if err := p.Truncate(0); err != nil {
		return &localError{fmt.Errorf("writing blob %s: %w", short(desc.Digest), err)}
	}
	if _, err := p.Write(data); err != nil {
		return &localError{fmt.Errorf("writing blob %s: %w", short(desc.Digest), err)}
	}
	if err := p.Commit(); err != nil {
		return &localError{fmt.Errorf("writing blob %s: %w", short(desc.Digest), err)}
	}
	return nil
}

// openPartial returns nil if the blob is complete in the store.
func openPartial(ctx context.Context, into BlobStore, desc v1.Descriptor) (Partial, error) {
	has, err := into.Has(ctx, digest.Digest(desc.Digest.String()))
	if err != nil {
		return nil, &localError{err}
	}
	if has {
		return nil, nil
	}
	p, err := into.Partial(ctx, desc)
	switch {
	case errors.Is(err, ErrBlobExists):
		return nil, nil
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &localError{err}
	}
	return p, nil
}
