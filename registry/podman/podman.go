// Package podman keeps containers in the storage of podman, buildah and skopeo (containers-storage), so that podman lists, runs and pushes what
// imgbuild made, and imgbuild builds from what podman has.
//
// The storage keeps layers unpacked, with what is needed to make exactly the same tar of them again (tar-split). The blobs that came from a
// registry are gone. So images from here have the uncompressed tars as their layers, and a manifest that says so.
//
// Nothing is ever mounted: layers are read through tar-split, and the overlay driver is told not to bind-mount its own directory.
package podman

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.podman.io/storage"
	drivers "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/reexec"
	"go.podman.io/storage/types"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/store"
)

// Init does the work of a child process that the storage library has started, and reports whether this is one. main and TestMain of
// everything that writes into the storage call it first and return if it is true: the library unpacks layers in a process of its own.
func Init() bool { return reexec.Init() }

// Options says which storage is used. The zero value means podman's own, as storage.conf says.
type Options struct {
	Spec string // DRIVER@GRAPHROOT+RUNROOT, as in containers-storage:[…]NAME; parts may be missing; empty for podman's own

	Progress progress.Reporter // is shown layers that are unpacked; nil shows nothing
	Log      *slog.Logger      // nil for nowhere
}

// Store is podman's storage. Its methods may be called by several goroutines at once.
type Store struct {
	store    storage.Store
	progress progress.Reporter
	log      *slog.Logger
}

// overlay is the driver that podman uses unless it can't.
const overlay = "overlay"

// storageOptions finds out where the storage is, without touching it.
func storageOptions(spec string) (types.StoreOptions, error) {
	opts, err := types.DefaultStoreOptions()
	if err != nil {
		return opts, fmt.Errorf("reading storage.conf: %w", err)
	}
	if spec != "" {
		driver, rest, hasDriver := strings.Cut(spec, "@")
		if !hasDriver {
			driver, rest = "", spec
		}
		graph, run, hasRun := strings.Cut(rest, "+")
		opts.GraphDriverName = driver
		opts.GraphDriverOptions = nil
		if graph != "" {
			opts.GraphRoot = graph
		}
		if hasRun {
			opts.RunRoot, _, _ = strings.Cut(run, ":")
		}
	}
	return withoutMounts(opts), nil
}

// withoutMounts settles the driver where storage.conf does not, and tells the overlay driver not to mount its directory.
func withoutMounts(opts types.StoreOptions) types.StoreOptions {
	if opts.GraphDriverName == "" {
		prior := drivers.ScanPriorDrivers(opts.GraphRoot)
		names := append(slices.Clone(opts.GraphDriverPriority), overlay, "vfs")
		opts.GraphDriverName = names[0]
		for _, name := range names {
			if prior[name] {
				opts.GraphDriverName = name
				break
			}
		}
	}
	if opts.GraphDriverName == overlay {
		opts.GraphDriverOptions = append(slices.Clone(opts.GraphDriverOptions), "overlay.skip_mount_home=true")
	}
	return opts
}

// Exists reports whether there is a storage that this process can read. It makes nothing.
func Exists(opts Options) bool {
	o, err := storageOptions(opts.Spec)
	if err != nil {
		return false
	}
	_, err = os.ReadDir(filepath.Join(o.GraphRoot, o.GraphDriverName+"-images"))
	return err == nil
}

// Open opens the storage, and makes it if there is none. An ordinary user has to be root of a user namespace with the same ids as podman's.
func Open(ctx context.Context, opts Options) (*Store, error) {
	o, err := storageOptions(opts.Spec)
	if err != nil {
		return nil, err
	}
	if opts.Spec == "" && len(drivers.ScanPriorDrivers(o.GraphRoot)) == 0 {
		if driver := podmansDriver(ctx); driver != "" {
			o.GraphDriverName = driver
			o.GraphDriverOptions = nil
			o = withoutMounts(o)
		}
	}
	s, err := storage.GetStore(o)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
			return nil, fmt.Errorf("opening podman's storage in %s: %w; it has to be opened in a user namespace", o.GraphRoot, err)
		}
		return nil, fmt.Errorf("opening podman's storage in %s: %w", o.GraphRoot, err)
	}
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	show := opts.Progress
	if show == nil {
		show = progress.Discard
	}
	return &Store{store: s, progress: show, log: log}, nil
}

// podmansDriver asks podman which driver it chooses for a storage that does not exist yet: that depends on its version, the kernel and who runs
// it, and two different ones would not see each other's containers. Without podman it is empty.
func podmansDriver(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := command.Output(ctx, command.Cmd{Name: "podman", Args: []string{"info", "--format", "{{.Store.GraphDriverName}}"}})
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// Place says where containers are: "containers-storage".
func (s *Store) Place() string { return string(reference.ContainersStorage) }

// Close ends the use of the store.
func (s *Store) Close() error {
	s.store.Free()
	return nil
}

// fullName returns the name that podman gives a container: with "localhost/" where no registry is named.
func fullName(name string) string {
	name = store.FullName(name)
	first, _, found := strings.Cut(name, "/")
	if !found || first != "localhost" && !strings.ContainsAny(first, ".:[") {
		return "localhost/" + name
	}
	return name
}

// shortName is the reverse.
func shortName(name string) string { return strings.TrimPrefix(name, "localhost/") }

// find returns the image that has a name, or whose id is "@ID". The error is [store.ErrNotFound] if there is none.
func (s *Store) find(name string) (*storage.Image, error) {
	if id, ok := strings.CutPrefix(name, "@"); ok {
		img, err := s.store.Image(id)
		if errors.Is(err, storage.ErrImageUnknown) {
			err = store.ErrNotFound
		}
		return img, err
	}
	images, err := s.store.Images()
	if err != nil {
		return nil, fmt.Errorf("reading podman's storage: %w", err)
	}
	full := fullName(name)
	for i := range images {
		if slices.Contains(images[i].Names, full) {
			return &images[i], nil
		}
	}
	return nil, store.ErrNotFound
}
