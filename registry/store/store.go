// Package store keeps containers on this machine: an OCI image layout that many processes use at once and that a kill, a crash or a full
// disk never breaks.
//
// # On the disk
//
//	DIR/oci-layout, index.json, blobs/sha256/…   the OCI image layout (image-spec v1.1 image-layout.md) that skopeo, umoci and podman read
//	DIR/imgbuild/lock            the store's lock, held for moments: see below
//	DIR/imgbuild/names/…         one lock for each name, held as long as somebody makes a new container of it
//	DIR/imgbuild/leases/…        what each running process relies on, so that Prune leaves it alone
//	DIR/imgbuild/tmp/…           files being written; each is locked by its writer
//	DIR/imgbuild/partial/…       blobs whose transfer can be resumed
//	DIR/imgbuild/index/…         the tree index of a layer, by the layer's digest
//	DIR/imgbuild/reserve         bytes given up on a full disk, so that names can be removed even then
//
// A name such as "leap:15.3" or "registry.example.org:5000/a/b:1" is an entry of index.json with the annotation
// org.opencontainers.image.ref.name.
//
// # What umoci's CAS does here and what it does not
//
// The layout is read, listed and collected through umoci's cas and casext packages. Writing is our own, because cas/dir can't be made safe from
// the outside: it renames without syncing the directory, so that a crash may lose a finished blob or bring the old index back; its index
// is read and replaced without a lock, so that of two processes one loses its name; its temporary directories exist for a moment
// before they are locked, so that another's Clean removes them; and its StatBlob looks in the working directory.
//
// # How it stays whole
//
// Everything is written under a temporary name, synced, renamed, and the directory synced. Blobs come before the index that names them. The
// index is only replaced under the exclusive store lock, after a check that every blob of the new entry is there. A process records a blob
// in its lease, under the shared store lock, before it relies on it; Prune holds the exclusive lock and keeps what the index or a
// living process's lease names. Locks are flock(2)s: they end with the process, however it ends.
//
// Other tools know nothing of these locks. Reading beside them is safe at any time; they should write into a store or collect its garbage only
// while no imgbuild does: skopeo's copy and umoci's may take back a name that was given meanwhile, and umoci gc a blob that has no name yet,
// which makes giving the name fail.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/opencontainers/umoci/oci/cas"
	"github.com/opencontainers/umoci/oci/cas/dir"
	"github.com/opencontainers/umoci/oci/casext"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/userns"
)

// ErrNotFound is in the error of every method that is asked for a name, blob or index which the store does not have. It is
// [fs.ErrNotExist] too.
var ErrNotFound error = notFoundError{}

type notFoundError struct{}

func (notFoundError) Error() string        { return "not in the store" }
func (notFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// ErrNotStore is in the error when the directory holds something else than an OCI image layout.
var ErrNotStore = errors.New("not a store")

// Options says how a store is used.
type Options struct {
	Progress progress.Reporter // is shown layers that are copied, and told of waiting for others; nil shows nothing
	Log      *slog.Logger      // is told of damage; nil for nowhere
}

// Store is an open store. Its methods may be called by several goroutines at once.
type Store struct {
	dir      string
	progress progress.Reporter
	log      *slog.Logger

	mu       sync.Mutex
	engine   *casext.Engine // nil until the layout exists
	writable bool           // the directories are there and stale files of dead processes are gone
	owner    *owner         // whose the store's files are
	lease    *lease         // nil until something is relied on
}

// DefaultDir returns where the user's store lies: /var/lib/imgbuild/store for root, else $XDG_DATA_HOME/imgbuild/store
// (~/.local/share/imgbuild/store). Who is root only of a user namespace, ours or that of podman unshare, is an ordinary user here.
func DefaultDir() (string, error) {
	user := userns.Real()
	uid := user.UID
	if outer, err := strconv.Atoi(os.Getenv("_CONTAINERS_ROOTLESS_UID")); err == nil && !user.Rootless {
		uid = outer
	}
	if uid == 0 {
		return "/var/lib/imgbuild/store", nil
	}
	data := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) { // the specification says that relative ones are to be ignored
		if user.Home == "" {
			return "", errors.New("finding the store: $HOME is not set; give its directory with --store")
		}
		data = filepath.Join(user.Home, ".local", "share")
	}
	return filepath.Join(data, "imgbuild", "store"), nil
}

// Open opens the store in dir. A store that does not exist yet is empty and is made by the first write. The caller closes it when
// nothing of it is used any longer, images included.
func Open(dir string, opts Options) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", dir, err)
	}
	s := &Store{dir: abs, progress: opts.Progress, log: opts.Log}
	if s.progress == nil {
		s.progress = progress.Discard
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.checkDir(); err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", dir, err)
	}
	return s, nil
}

// checkDir refuses a directory in which something else lives. A layout that is half made is one of ours or none of value.
func (s *Store) checkDir() error {
	if _, err := os.Stat(filepath.Join(s.dir, "oci-layout")); err == nil {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case "imgbuild", "blobs", "index.json", "lost+found":
		case "oci-layout": // another process has made it just now
		default:
			return fmt.Errorf("%w: it has no file oci-layout but %q; give an empty directory or one that does not exist", ErrNotStore, e.Name())
		}
	}
	return nil
}

// Dir returns the store's directory as an absolute path.
func (s *Store) Dir() string { return s.dir }

// Close gives up what the process relies on: blobs without a name may be pruned from now on.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		return nil
	}
	l := s.lease
	s.lease = nil
	return l.close()
}

// path returns the path of an entry of the store's own directory.
func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir, "imgbuild"}, elem...)...)
}

// reader returns the CAS for reading, or an error that is [ErrNotFound] while there is no layout yet.
func (s *Store) reader() (*casext.Engine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != nil {
		return s.engine, nil
	}
	if _, err := os.Stat(filepath.Join(s.dir, "oci-layout")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the store %s: it is empty: %w", s.dir, ErrNotFound)
	}
	e, err := dir.Open(s.dir)
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", s.dir, err)
	}
	ext := casext.NewEngine(&engine{Engine: e, store: s})
	s.engine = &ext
	return s.engine, nil
}

var _ cas.Engine = (*engine)(nil)
