package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/registry/podman"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/remote"
	"github.com/imgbuild/imgbuild/registry/store"
)

// PodmanStore is the name that means podman's storage instead of a directory.
const PodmanStore = "containers-storage"

// Options says which store and which registries a client uses.
type Options struct {
	// Store is a directory, or [PodmanStore], to which a colon and podman's DRIVER@GRAPHROOT+RUNROOT in brackets may be added; empty for
	// [store.DefaultDir].
	Store    string
	Remote   remote.Options    // how registries are spoken to; its Progress and Log are those below
	Progress progress.Reporter // nil shows nothing
	Log      *slog.Logger      // nil for nowhere
}

// Client fetches containers from wherever they are, and sends them. Its methods may be called by several goroutines at once.
type Client struct {
	opts   Options
	store  Store
	layout *store.Store // store as a layout, nil if it is podman's storage
	remote func() (*remote.Client, error)
	podman func() Store // podman's storage beside another store, nil if there is none to be read

	mu      sync.Mutex
	closers []func() error
}

// Init does the work of a child process that podman's storage library has started, and reports whether this is one. main calls it first and
// returns if it is true, and so does the TestMain of tests that write into podman's storage.
func Init() bool { return podman.Init() }

// NewClient opens the store. The caller closes the client when no image of it is used any longer.
func NewClient(opts Options) (*Client, error) {
	if opts.Progress == nil {
		opts.Progress = progress.Discard
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	opts.Remote.Progress, opts.Remote.Log = opts.Progress, opts.Log
	c := &Client{opts: opts}
	c.remote = sync.OnceValues(func() (*remote.Client, error) { return remote.New(opts.Remote) })
	c.podman = sync.OnceValue(func() Store { return c.openPodmanBeside() })
	if err := c.openStore(); err != nil {
		return nil, err
	}
	return c, nil
}

// PodmanSpec takes a --store apart: whether it means podman's storage, and which.
func PodmanSpec(name string) (spec string, ok bool) {
	rest, ok := strings.CutPrefix(name, PodmanStore)
	if !ok || rest != "" && !strings.HasPrefix(rest, ":[") {
		return "", false
	}
	return strings.TrimSuffix(strings.TrimPrefix(rest, ":["), "]"), true
}

func (c *Client) openStore() error {
	if spec, ok := PodmanSpec(c.opts.Store); ok {
		s, err := podman.Open(context.Background(), podman.Options{Spec: spec, Progress: c.opts.Progress, Log: c.opts.Log})
		if err != nil {
			return err
		}
		c.store = podmanStore{s}
		c.onClose(s.Close)
		return nil
	}
	dir := c.opts.Store
	if dir == "" {
		var err error
		if dir, err = store.DefaultDir(); err != nil {
			return err
		}
	}
	s, err := store.Open(dir, store.Options{Progress: c.opts.Progress, Log: c.opts.Log})
	if err != nil {
		return err
	}
	c.store, c.layout = layoutStore{s}, s
	c.onClose(s.Close)
	return nil
}

// openPodmanBeside opens podman's storage for reading what is there. That it can't be read is no error: most machines have none.
func (c *Client) openPodmanBeside() Store {
	if !podman.Exists(podman.Options{}) {
		return nil
	}
	s, err := podman.Open(context.Background(), podman.Options{Log: c.opts.Log})
	if err != nil {
		c.opts.Log.Info("podman's containers can't be looked through", "error", err)
		return nil
	}
	c.onClose(s.Close)
	return podmanStore{s}
}

func (c *Client) onClose(fn func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closers = append(c.closers, fn)
}

// Store returns the store that the client keeps containers in.
func (c *Client) Store() Store { return c.store }

// Close ends the use of all images that the client gave.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	c.closers = nil
	return errors.Join(errs...)
}

// storeName returns the name under which stores keep what a reference names: without a transport, with the tag "latest" if it has no tag and
// no digest, and with the digest alone if it has both.
func storeName(ref reference.Reference) string {
	if ref.Digest != "" {
		return ref.Name() + "@" + ref.Digest.String()
	}
	return ref.Name() + ":" + ref.WithDefaultTag().Tag
}

// findLocal looks for a container in one store. The candidates are names as stores keep them, the best first; if loose is set, a name of
// the store that ends in "/" and the first candidate is taken too, as podman does with short names.
func findLocal(ctx context.Context, s Store, ref reference.Reference, candidates []string, loose bool) (string, v1.Image, error) {
	for _, name := range candidates {
		img, err := s.Image(ctx, name)
		if err == nil {
			return name, img, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return "", nil, err
		}
	}
	if !loose && ref.Digest == "" {
		return "", nil, ErrNotFound
	}
	entries, err := s.List(ctx)
	if err != nil {
		return "", nil, err
	}
	var found []Entry
	for _, e := range entries {
		if matches(e, ref, loose) {
			found = append(found, e)
		}
	}
	if len(found) == 0 {
		return "", nil, ErrNotFound
	}
	for _, e := range found[1:] {
		if e.Digest != found[0].Digest {
			var names []string
			for _, e := range found {
				names = append(names, e.FullName())
			}
			return "", nil, &AmbiguousError{Name: ref.String(), Names: names}
		}
	}
	name := found[0].FullName()
	img, err := s.Image(ctx, name)
	return name, img, err
}

// matches reports whether an entry of a store may be what a reference means.
func matches(e Entry, ref reference.Reference, loose bool) bool {
	if e.Name != ref.Name() && !(loose && strings.HasSuffix(e.Name, "/"+ref.Name())) {
		return false
	}
	if ref.Digest != "" {
		return e.Digest == ref.Digest || e.Source == ref.Digest
	}
	return e.Tag == ref.WithDefaultTag().Tag
}

// AmbiguousError says that several different containers have a name that ends in a short name.
type AmbiguousError struct {
	Name  string
	Names []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%s may be any of %s; give one of these names", e.Name, strings.Join(e.Names, ", "))
}
