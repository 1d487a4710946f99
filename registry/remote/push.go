package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/registriesconf"
)

// maxMountSources bounds how many repositories a blob is looked for in before it is sent.
const maxMountSources = 3

// PushOptions says what helps a push.
type PushOptions struct {
	// MountFrom are containers that share layers with the one that is pushed. Those in the same registry let it link the
	// layers instead of taking them anew.
	MountFrom []reference.Reference
}

// Push sends img to ref's registry, blobs first, several at once, and the manifest under ref's tag ("latest" if it has none)
// last. What the registry has already is not sent. It returns the manifest's digest.
func (c *Client) Push(ctx context.Context, img v1.Image, ref reference.Reference, opts PushOptions) (v1.Hash, error) {
	conf, e, err := c.pushTo(ref)
	if err != nil {
		return v1.Hash{}, err
	}
	var from []string
	for _, r := range opts.MountFrom {
		place, err := conf.PushTo(r)
		if err == nil && r.IsRemote() && place.Reference.Domain == e.Reference.Domain && place.Reference.Repository != e.Reference.Repository &&
			len(from) < maxMountSources {
			from = append(from, place.Reference.Repository)
		}
	}
	s, err := c.session(ctx, e, "pull,push", from...)
	if err != nil {
		return v1.Hash{}, c.explain("pushing", e, err)
	}
	digest, err := c.push(ctx, s, e, img, from)
	if err != nil && ctx.Err() != nil {
		return v1.Hash{}, context.Cause(ctx)
	}
	return digest, c.explain("pushing", e, err)
}

// CheckPush finds out whether ref's registry lets a container be pushed there, before there is one. It begins an upload and takes it back.
func (c *Client) CheckPush(ctx context.Context, ref reference.Reference) error {
	_, e, err := c.pushTo(ref)
	if err != nil {
		return err
	}
	s, err := c.session(ctx, e, "pull,push")
	if err == nil {
		err = c.retry(ctx, "reaching "+ref.Domain, func() error { return tryUpload(ctx, s) })
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.explain("pushing", e, err)
}

func tryUpload(ctx context.Context, s *session) error {
	resp, err := s.do(ctx, request{method: http.MethodPost, url: s.url("blobs/uploads/"), body: http.NoBody, ok: []int{http.StatusAccepted}})
	if err != nil {
		return err
	}
	location, locationErr := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err := resp.Body.Close(); err != nil || locationErr != nil || resp.Header.Get("Location") == "" {
		return err // it can't be taken back; the registry forgets it
	}
	resp, err = s.do(ctx, request{method: http.MethodDelete, url: location.String(), ok: []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted}})
	if err != nil {
		return nil //nolint:nilerr // some registries can't
	}
	return resp.Body.Close()
}

// pushTo returns where a push to ref goes.
func (c *Client) pushTo(ref reference.Reference) (*registriesconf.Config, registriesconf.Endpoint, error) {
	if !ref.IsRemote() {
		return nil, registriesconf.Endpoint{}, fmt.Errorf("pushing %s: a push needs a full name with its registry, such as registry.example.org/%s", ref, ref.Repository)
	}
	conf, err := c.conf()
	if err != nil {
		return nil, registriesconf.Endpoint{}, err
	}
	e, err := conf.PushTo(ref)
	return conf, e, err
}

func (c *Client) push(ctx context.Context, s *session, e registriesconf.Endpoint, img v1.Image, from []string) (v1.Hash, error) {
	m, err := img.Manifest()
	if err != nil {
		return v1.Hash{}, &localError{err}
	}
	raw, err := img.RawManifest()
	if err != nil {
		return v1.Hash{}, &localError{err}
	}
	digest, err := img.Digest()
	if err != nil {
		return v1.Hash{}, &localError{err}
	}
	to := e.Reference
	if to.Digest != "" && to.Digest.String() != digest.String() {
		return v1.Hash{}, fmt.Errorf("the container's digest is %s and not %s", digest, to.Digest)
	}
	if to.Tag != "" {
		to.Digest = "" // The tag shall be set too.
	}
	group, groupCtx := errgroup.WithContext(ctx)
	sent := map[v1.Hash]bool{}
	send := func(desc v1.Descriptor, what string, open func() (io.ReadCloser, error)) {
		if sent[desc.Digest] {
			return
		}
		sent[desc.Digest] = true
		group.Go(func() error {
			release, err := c.slot(groupCtx)
			if err != nil {
				return err
			}
			defer release()
			u := upload{client: c, session: s, desc: desc, open: open, from: from}
			if err := u.run(groupCtx); err != nil {
				return &partError{what + " " + short(desc.Digest), err}
			}
			return nil
		})
	}
	for _, desc := range m.Layers {
		if !desc.MediaType.IsDistributable() && len(desc.URLs) > 0 {
			continue // It is to be had at its addresses and may not be given away.
		}
		send(desc, "layer", func() (io.ReadCloser, error) {
			layer, err := img.LayerByDigest(desc.Digest)
			if err != nil {
				return nil, err
			}
			return layer.Compressed()
		})
	}
	send(m.Config, "config", func() (io.ReadCloser, error) {
		config, err := img.RawConfigFile()
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(config)), nil
	})
	if err := group.Wait(); err != nil {
		return v1.Hash{}, err
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return v1.Hash{}, &localError{err}
	}
	return digest, c.putManifest(ctx, s, to.Identifier(), string(mediaType), raw, digest)
}

// putManifest stores the manifest under a tag or digest.
func (c *Client) putManifest(ctx context.Context, s *session, identifier, mediaType string, raw []byte, digest v1.Hash) error {
	return c.retry(ctx, "the manifest of "+s.repo.Name(), func() error {
		resp, err := s.do(ctx, request{method: http.MethodPut, url: s.url("manifests/%s", identifier),
			header: map[string]string{"Content-Type": mediaType}, body: bytes.NewReader(raw), size: int64(len(raw)),
			ok: []int{http.StatusCreated, http.StatusOK, http.StatusAccepted}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if said := resp.Header.Get("Docker-Content-Digest"); said != "" && said != digest.String() {
			return fmt.Errorf("%w: the registry stored the manifest as %s and not as %s", ErrInvalid, clean(said), digest)
		}
		return nil
	})
}

// has asks whether the registry has a blob.
func (c *Client) has(ctx context.Context, s *session, desc v1.Descriptor) (bool, error) {
	var found bool
	err := c.retry(ctx, "blob "+short(desc.Digest), func() error {
		resp, err := s.do(ctx, request{method: http.MethodHead, url: s.url("blobs/%s", desc.Digest), ok: []int{http.StatusOK}})
		var status *statusError
		if errors.As(err, &status) && status.status == http.StatusNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		return resp.Body.Close()
	})
	return found, err
}

// taskFor shows one blob's upload.
func (c *Client) taskFor(desc v1.Descriptor) progress.Task {
	return c.opts.Progress.Start("pushing "+short(desc.Digest), desc.Size, progress.Bytes)
}
