package registry

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/registry/archive"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/podman"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/remote"
)

// Policy says when a registry is asked.
type Policy string

// The policies, as in podman's --pull.
const (
	PullMissing Policy = "missing" // if the container is not on this machine
	PullAlways  Policy = "always"  // in any case
	PullNever   Policy = "never"   // not at all
)

// errNeverPulled says that the answer is due to [PullNever].
var errNeverPulled = errors.New("and nothing may be pulled")

// FetchOptions says where a container may come from.
type FetchOptions struct {
	From     []string // registries, HOST[:PORT][/NAMESPACE], that are put before short names, tried in order; empty for registries.conf
	Pull     Policy   // empty for PullMissing
	Platform string   // OS/ARCH[/VARIANT]; empty for this machine's in a registry, and for whatever is there in a store

	// Arriving, if not nil, is called when a layer begins to come from a registry, with a blob that can be read at once: reading waits for
	// the bytes, and fails when the transfer does. Whether they are the right ones is known when Fetch has returned without an error; until
	// then, nothing that is made of them may be used. The callee closes the blob.
	Arriving func(layer digest.Digest, blob Blob)
}

// Image is a container that has been found. It can be read until the client is closed.
type Image struct {
	v1.Image
	Name   string        // under which the store has it, or the reference of an archive
	Digest digest.Digest // of its manifest
	From   string        // where it was: "store", "podman", a registry, or an archive's transport

	store Store // that has its blobs and indexes; nil for an archive
}

// Blob opens a layer's blob by its digest. The error is [ErrNoBlob] if it does not lie anywhere as such.
func (i *Image) Blob(d digest.Digest) (Blob, error) {
	if i.store != nil {
		return i.store.Blob(d)
	}
	sum, err := v1.NewHash(d.String())
	if err != nil {
		return nil, err
	}
	layer, err := i.LayerByDigest(sum)
	if err != nil {
		return nil, err
	}
	if direct, ok := layer.(manifest.BlobLayer); ok {
		return direct.OpenBlob()
	}
	return nil, ErrNoBlob
}

// Index opens what is stored beside a layer; [ErrNotFound] if nothing is.
func (i *Image) Index(d digest.Digest) (io.ReadCloser, error) {
	if i.store == nil {
		return nil, ErrNotFound
	}
	return i.store.Index(d)
}

// PutIndex stores something beside a layer. An archive keeps nothing; that is no error.
func (i *Image) PutIndex(ctx context.Context, d digest.Digest, write func(io.Writer) error) error {
	if i.store == nil {
		return nil
	}
	return i.store.PutIndex(ctx, d, write)
}

// Fetch finds a container: in the store, in podman's storage, then in the registries, from where it is pulled into the store. A reference with a
// transport says where it is, and nowhere else is looked; an archive is read where it lies. The error is [ErrNotFound] if it is nowhere.
func (c *Client) Fetch(ctx context.Context, name string, opts FetchOptions) (*Image, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	switch ref.Transport {
	case reference.OCI, reference.OCIArchive, reference.DockerArchive, reference.Dir:
		return c.openArchive(ctx, ref, opts)
	case reference.ContainersStorage:
		return c.fromPodman(ctx, ref)
	}
	img, missing := c.local(ctx, ref, opts)
	if !errors.Is(missing, ErrNotFound) {
		return img, missing
	}
	if opts.Pull == PullNever {
		return nil, alsoHere(fmt.Errorf("looking for %s: %w, %w", name, ErrNotFound, errNeverPulled), missing)
	}
	img, err = c.pull(ctx, ref, opts)
	return img, alsoHere(err, missing)
}

// otherPlatformError says that a container is here, but not for the platform that it should be for. It is [ErrNotFound].
type otherPlatformError struct{ name, place, have, want string }

// Error implements error.
func (e *otherPlatformError) Error() string {
	return fmt.Sprintf("%s, which is here in %s, is for %s and not for %s", e.name, e.place, e.have, e.want)
}

// Is implements errors.Is.
func (e *otherPlatformError) Is(target error) bool { return target == ErrNotFound }

// alsoHere adds to an error why what is on this machine did not do.
func alsoHere(err, missing error) error {
	var other *otherPlatformError
	if err == nil || !errors.As(missing, &other) {
		return err
	}
	return fmt.Errorf("%w; %v", err, other) // err alone says what kind of failure it is
}

func (c *Client) openArchive(ctx context.Context, ref reference.Reference, opts FetchOptions) (*Image, error) {
	a, err := archive.Open(ctx, ref, archive.Options{Platform: opts.Platform})
	if err != nil {
		return nil, err
	}
	c.onClose(a.Close)
	name := a.Name
	if name == "" {
		name = ref.String()
	}
	return newImage(a, name, string(ref.Transport), nil)
}

// fromPodman takes a container from a storage of podman's. A short name may stand for one with a registry, as for podman itself.
func (c *Client) fromPodman(ctx context.Context, ref reference.Reference) (*Image, error) {
	s, err := c.podmanStore(ctx, ref.Path)
	if err != nil {
		return nil, err
	}
	if ref.Image != "" {
		img, err := s.Image(ctx, "@"+ref.Image)
		if err != nil {
			return nil, err
		}
		return newImage(img, "@"+ref.Image, "podman", s)
	}
	ref.Transport, ref.Path = reference.None, ""
	name, img, err := findLocal(ctx, s, ref, []string{storeName(ref)}, ref.IsShort())
	if err != nil {
		return nil, fmt.Errorf("looking for %s in podman's storage: %w", ref, err)
	}
	return newImage(img, name, "podman", s)
}

// podmanStore returns the storage of podman's that a reference means.
func (c *Client) podmanStore(ctx context.Context, spec string) (Store, error) {
	if main, ok := PodmanSpec(c.opts.Store); ok && spec == main {
		return c.store, nil
	}
	s, err := podman.Open(ctx, podman.Options{Spec: spec, Progress: c.opts.Progress, Log: c.opts.Log})
	if err != nil {
		return nil, err
	}
	c.onClose(s.Close)
	return podmanStore{s}, nil
}

// local finds a container on this machine. The error is [ErrNotFound] if a registry has to be asked.
func (c *Client) local(ctx context.Context, ref reference.Reference, opts FetchOptions) (*Image, error) {
	if ref.Transport == reference.Docker || opts.Pull == PullAlways {
		return nil, ErrNotFound
	}
	candidates := []string{storeName(ref)}
	loose := false
	if ref.IsShort() {
		for _, from := range opts.From {
			full, err := ref.In(from)
			if err != nil {
				return nil, err
			}
			candidates = append(candidates, storeName(full))
		}
		candidates = append(candidates, "localhost/"+storeName(ref))
		loose = len(opts.From) == 0
	}
	var missing error = ErrNotFound
	for _, place := range c.places() {
		name, img, err := findLocal(ctx, place.store, ref, candidates, loose)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if have, ok, err := satisfies(img, opts.Platform); err != nil {
			return nil, err
		} else if !ok {
			missing = &otherPlatformError{name, place.name, have, opts.Platform}
			c.opts.Log.Info(missing.Error())
			continue
		}
		return newImage(img, name, place.name, place.store)
	}
	return nil, missing
}

type place struct {
	name  string
	store Store
}

// places returns the stores of this machine in the order in which they are searched.
func (c *Client) places() []place {
	if c.layout == nil {
		return []place{{"podman", c.store}}
	}
	places := []place{{"store", c.store}}
	if beside := c.podman(); beside != nil {
		places = append(places, place{"podman", beside})
	}
	return places
}

func newImage(img v1.Image, name, from string, s Store) (*Image, error) {
	sum, err := img.Digest()
	if err != nil {
		return nil, err
	}
	return &Image{Image: img, Name: name, Digest: digest.Digest(sum.String()), From: from, store: s}, nil
}

// satisfies returns the platform of an image, and reports whether it is for the one that is wanted; empty means any.
func satisfies(img v1.Image, platform string) (have string, ok bool, err error) {
	if platform == "" {
		return "", true, nil
	}
	want, err := remote.ParsePlatform(platform)
	if err != nil {
		return "", false, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return "", false, err
	}
	own, err := remote.ParsePlatform(config.Platform().String())
	if err != nil {
		return "", false, err
	}
	return own.String(), own.Satisfies(want), nil
}
