package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/registriesconf"
)

// maxIndexDepth bounds indexes within indexes.
const maxIndexDepth = 3

// Resolved is a container found in a registry; nothing but its manifest has been transferred.
type Resolved struct {
	// Reference is the full name, with the registry that a short name was found in.
	Reference reference.Reference
	// Endpoint is the place that answered, which may be a mirror.
	Endpoint registriesconf.Endpoint
	// Index is the index that the manifest was chosen from, nil if the name leads to a manifest.
	Index *v1.Descriptor
	// Manifest describes RawManifest; its digest is a sha256 one.
	Manifest v1.Descriptor
	// RawManifest is the manifest as it is in the registry: OCI's or Docker's schema 2.
	RawManifest []byte
	Config      v1.Descriptor
	Layers      []v1.Descriptor
	// Platform is that of the index's entry; the zero value if there is no index.
	Platform v1.Platform
}

// Size is the number of bytes of the config and of all distinct layers.
func (r *Resolved) Size() int64 {
	var total int64
	for _, desc := range r.blobs() {
		total += desc.Size
	}
	return total
}

// blobs are the config and the layers, each digest once.
func (r *Resolved) blobs() []v1.Descriptor {
	list := []v1.Descriptor{r.Config}
	for _, layer := range r.Layers {
		if !slices.ContainsFunc(list, func(d v1.Descriptor) bool { return d.Digest == layer.Digest }) {
			list = append(list, layer)
		}
	}
	return list
}

// Resolve finds the container that ref names, in the first place of registries.conf that has it: the registries of the
// search list for a short name, and for each the mirrors before the registry. platform is OS/ARCH[/VARIANT]; empty means
// that of Options. It is used where the name leads to an index, and an index without it is an error that is ErrPlatform and
// lists what there is.
func (c *Client) Resolve(ctx context.Context, ref reference.Reference, platform string) (*Resolved, error) {
	var found *Resolved
	err := c.eachEndpoint(ctx, ref, func(full reference.Reference, e registriesconf.Endpoint) error {
		var err error
		found, err = c.resolveAt(ctx, "finding", full, e, platform)
		return err
	})
	return found, err
}

// eachEndpoint calls fn for every place that may have ref until fn succeeds. The error is that of the only place, or all
// places' errors in one line.
func (c *Client) eachEndpoint(ctx context.Context, ref reference.Reference, fn func(full reference.Reference, e registriesconf.Endpoint) error) error {
	if ref.Transport != reference.None && ref.Transport != reference.Docker {
		return fmt.Errorf("finding %s: it isn't in a registry", ref)
	}
	conf, err := c.conf()
	if err != nil {
		return err
	}
	names, err := conf.Names(ref.WithDefaultTag())
	if err != nil {
		return err
	}
	var failures joined
	for _, full := range names {
		endpoints, err := conf.PullFrom(full)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		for _, e := range endpoints {
			err := fn(full, e)
			if err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			var local *localError
			if errors.As(err, &local) {
				return err
			}
			failures = append(failures, err)
			if e.Mirror {
				c.log.Info("a mirror failed", "mirror", e.Reference.Domain, "because", err.Error())
			}
		}
	}
	if len(failures) == 1 {
		return failures[0]
	}
	return failures
}

// resolveAt finds full at one place.
func (c *Client) resolveAt(ctx context.Context, doing string, full reference.Reference, e registriesconf.Endpoint, platform string) (*Resolved, error) {
	if platform == "" {
		platform = c.opts.Platform
	}
	want, err := ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	s, err := c.session(ctx, e, "pull")
	if err != nil {
		return nil, c.explain(doing, e, err)
	}
	r := &Resolved{Reference: full, Endpoint: e}
	desc, raw, err := c.fetchManifest(ctx, s, e.Reference.Identifier())
	if err != nil {
		return nil, c.explain(doing, e, c.whichTags(ctx, doing, s, e, err))
	}
	for depth := 0; desc.MediaType.IsIndex(); depth++ {
		if depth == maxIndexDepth {
			return nil, c.explain(doing, e, fmt.Errorf("%w: indexes lie %d deep in each other", ErrInvalid, depth))
		}
		entry, err := chooseFrom(raw, want)
		if err != nil {
			return nil, c.explain(doing, e, err)
		}
		if r.Index == nil {
			index := desc
			r.Index = &index
		}
		if entry.Platform != nil {
			r.Platform = normalPlatform(*entry.Platform)
		}
		if desc, raw, err = c.fetchManifest(ctx, s, entry.Digest.String()); err != nil {
			return nil, c.explain(doing, e, err)
		}
	}
	m, err := manifest.Parse(raw)
	if err != nil {
		return nil, c.explain(doing, e, err)
	}
	if err := checkContainer(m); err != nil {
		return nil, c.explain(doing, e, err)
	}
	r.Manifest, r.RawManifest, r.Config, r.Layers = desc, raw, m.Config, m.Layers
	return r, nil
}

// chooseFrom picks the entry for a platform from the bytes of an index.
func chooseFrom(raw []byte, want v1.Platform) (v1.Descriptor, error) {
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return v1.Descriptor{}, fmt.Errorf("%w: reading the index: %s", ErrInvalid, clean(err.Error()))
	}
	var entries []v1.Descriptor
	for _, entry := range index.Manifests {
		if entry.MediaType.IsImage() || entry.MediaType.IsIndex() || entry.MediaType == "" {
			entries = append(entries, entry)
		}
	}
	entry, ok := choose(entries, want)
	if !ok {
		return v1.Descriptor{}, &platformError{want: platformText(want), have: platformsOf(entries)}
	}
	if _, err := v1.NewHash(entry.Digest.String()); err != nil {
		return v1.Descriptor{}, fmt.Errorf("%w: the index names the digest %q", ErrInvalid, entry.Digest)
	}
	return entry, nil
}

type platformError struct{ want, have string }

func (e *platformError) Error() string {
	return fmt.Sprintf("there is nothing for %s but for %s; choose with --platform", e.want, e.have)
}

func (e *platformError) Is(target error) bool { return target == ErrPlatform }

// checkContainer refuses what registries hold besides containers, and layers that nobody here can read.
func checkContainer(m *v1.Manifest) error {
	switch m.Config.MediaType {
	case types.OCIConfigJSON, types.DockerConfigJSON, "":
	default:
		return fmt.Errorf("%w: this is no container, its config is of type %q", ErrInvalid, m.Config.MediaType)
	}
	if m.Config.Size > manifest.MaxConfigSize {
		return fmt.Errorf("%w: the config has %d bytes, more than the %d allowed", ErrInvalid, m.Config.Size, manifest.MaxConfigSize)
	}
	for _, layer := range m.Layers {
		if strings.HasSuffix(string(layer.MediaType), "+encrypted") {
			return fmt.Errorf("%w: the layer %s is encrypted", ErrInvalid, short(layer.Digest))
		}
	}
	return nil
}

// fetchManifest gets a manifest or index by tag or digest, bounded and verified.
func (c *Client) fetchManifest(ctx context.Context, s *session, identifier string) (desc v1.Descriptor, raw []byte, err error) {
	accept := strings.Join([]string{string(types.OCIManifestSchema1), string(types.OCIImageIndex), string(types.DockerManifestSchema2),
		string(types.DockerManifestList), string(types.DockerManifestSchema1Signed) + ";q=0.1", string(types.DockerManifestSchema1) + ";q=0.1"}, ", ")
	var header http.Header
	err = c.retry(ctx, "the manifest of "+s.repo.Name(), func() error {
		resp, err := s.do(ctx, request{method: http.MethodGet, url: s.url("manifests/%s", identifier),
			header: map[string]string{"Accept": accept}, ok: []int{http.StatusOK}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		header = resp.Header
		raw, err = io.ReadAll(io.LimitReader(resp.Body, manifest.MaxManifestSize+1))
		return err
	})
	if err != nil {
		return desc, nil, err
	}
	if len(raw) > manifest.MaxManifestSize {
		return desc, nil, fmt.Errorf("%w: the manifest is larger than %d bytes", ErrInvalid, manifest.MaxManifestSize)
	}
	if err := verifyManifest(raw, identifier, header.Get("Docker-Content-Digest")); err != nil {
		return desc, nil, err
	}
	kind, err := manifestType(raw, header.Get("Content-Type"))
	if err != nil {
		return desc, nil, err
	}
	hash, err := v1.NewHash(digest.SHA256.FromBytes(raw).String())
	if err != nil {
		return desc, nil, err
	}
	return v1.Descriptor{MediaType: kind, Size: int64(len(raw)), Digest: hash}, raw, nil
}

// verifyManifest compares raw with the digest it was asked for by, or else with the one that the registry says.
func verifyManifest(raw []byte, identifier, said string) error {
	want := digest.Digest(identifier)
	if want.Validate() != nil {
		want = digest.Digest(said)
		if want.Validate() != nil {
			return nil
		}
	}
	if got := want.Algorithm().FromBytes(raw); got != want {
		return fmt.Errorf("%w: the manifest's digest is %s and not %s", ErrInvalid, got, want)
	}
	return nil
}

// manifestType tells what raw is. Bytes that could be read as an index and as a manifest are refused, because two readers
// could see two containers in them (CVE-2021-41190).
func manifestType(raw []byte, contentType string) (types.MediaType, error) {
	var probe struct {
		MediaType types.MediaType `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Layers    json.RawMessage `json:"layers"`
		Config    json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(raw, &probe); err != nil {
		return "", fmt.Errorf("%w: the manifest isn't JSON: %s", ErrInvalid, clean(err.Error()))
	}
	sent := types.MediaType(contentType)
	if plain, _, err := mime.ParseMediaType(contentType); err == nil {
		sent = types.MediaType(plain)
	}
	kind := probe.MediaType
	if kind == "" {
		kind = sent
	}
	isIndex, isImage := probe.Manifests != nil, probe.Layers != nil || probe.Config != nil
	switch {
	case isIndex && isImage:
		return "", fmt.Errorf("%w: the manifest is an index and a container at once", ErrInvalid)
	case isIndex && kind.IsImage() || isImage && kind.IsIndex():
		return "", fmt.Errorf("%w: the manifest is not what its type %q says", ErrInvalid, kind)
	case isIndex && !kind.IsIndex():
		return types.OCIImageIndex, nil
	case isImage && !kind.IsImage():
		return types.OCIManifestSchema1, nil
	}
	return kind, nil
}
