package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ScanOptions say what [ScanDir] leaves out.
type ScanOptions struct {
	// Exclude holds patterns of names to leave out, with all below them; see [Excludes] for their form.
	Exclude []string
	// OneFileSystem leaves out what is mounted below the root. Of a directory that something is mounted on, the directory itself stays, with the
	// attributes of what is mounted there.
	OneFileSystem bool
	// KeepVolatile keeps what is in /dev, /proc, /sys, /run and /tmp, which is otherwise left out: it belongs to the running machine.
	KeepVolatile bool
}

// volatile holds the directories whose contents belong to a running machine.
var volatile = [...]string{"dev", "proc", "sys", "run", "tmp"}

// IsVolatile reports whether what is in the directory of this name belongs to a running machine and not to a root tree.
func IsVolatile(dir string) bool { return slices.Contains(volatile[:], dir) }

// Note says what could not be kept.
type Note struct {
	Path string // in the tree, with a leading slash
	Text string
}

// ScanDir reads the metadata of a directory and of all below it. Contents stay where they are and are read when they are used; a file that was changed
// in between is an error then. Nothing outside of dir is read, even if entries are exchanged for symbolic links meanwhile.
//
// Hard links, extended attributes and the holes of sparse files are kept, and for each entry the state of the file it came from, for [Changes]. Sockets
// can't be kept and become notes.
func ScanDir(ctx context.Context, dir string, opts ScanOptions) (*Tree, []Note, error) {
	exclude, err := ParseExcludes(opts.Exclude)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the directory %s: %w", dir, err)
	}
	root, err := openHostRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the directory %s: %w", dir, err)
	}
	s := newScanner(root, opts, exclude)
	tree, err := s.scan(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the directory %s: %w", dir, err)
	}
	slices.SortFunc(s.notes, func(a, b Note) int { return strings.Compare(a.Path, b.Path) })
	return tree, s.notes, nil
}

type inode struct{ dev, ino uint64 }

// scanner walks a directory with several goroutines, each of which takes one directory at a time.
type scanner struct {
	root    *hostRoot
	opts    ScanOptions
	exclude Excludes
	rootDev uint64
	start   time.Time

	mu    sync.Mutex
	wake  sync.Cond
	todo  []scanJob // directories that nobody reads yet
	busy  int       // goroutines that read one
	links map[inode]*Node
	notes []Note
	err   error
}

func newScanner(root *hostRoot, opts ScanOptions, exclude Excludes) *scanner {
	s := &scanner{root: root, opts: opts, exclude: exclude, links: map[inode]*Node{}, start: time.Now()}
	s.wake.L = &s.mu
	return s
}

// scanJob is a directory to be read into node.
type scanJob struct {
	name string
	node *Node
}

func (s *scanner) scan(ctx context.Context) (*Tree, error) {
	var st unix.Statx_t
	if err := unix.Statx(s.root.fd(), "", unix.AT_EMPTY_PATH, statxMask, &st); err != nil {
		return nil, os.NewSyscallError("statx", err)
	}
	s.rootDev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	node, err := s.node(".", s.root.fd(), "", &st)
	if err != nil {
		return nil, err
	}
	s.todo = append(s.todo, scanJob{".", node})
	stop := context.AfterFunc(ctx, func() { s.fail(context.Cause(ctx)) })
	var workers sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		workers.Go(s.work)
	}
	workers.Wait()
	stop()
	s.mu.Lock() // the context may be ending
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	return &Tree{root: node}, nil
}

func (s *scanner) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.wake.Broadcast()
}

// work reads directories until there are none left.
func (s *scanner) work() {
	reader := &dirReader{scanner: s, buffer: make([]byte, 64<<10)}
	for {
		s.mu.Lock()
		for len(s.todo) == 0 && s.busy > 0 && s.err == nil {
			s.wake.Wait()
		}
		if len(s.todo) == 0 || s.err != nil {
			s.mu.Unlock()
			s.wake.Broadcast()
			return
		}
		job := s.todo[len(s.todo)-1]
		s.todo = s.todo[:len(s.todo)-1]
		s.busy++
		s.mu.Unlock()

		found, err := reader.read(job)

		s.mu.Lock()
		s.busy--
		s.todo = append(s.todo, found...)
		if err != nil && s.err == nil {
			s.err = err
		}
		s.mu.Unlock()
		if len(found) != 1 || err != nil {
			s.wake.Broadcast()
		}
	}
}

func (s *scanner) note(name, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, Note{"/" + name, text})
}

// dirReader reads one directory after the other with the same memory.
type dirReader struct {
	*scanner
	buffer []byte
	names  []string
}

// read fills a directory's node and returns the directories found in it.
func (r *dirReader) read(job scanJob) ([]scanJob, error) {
	fd, err := r.root.open(job.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		if errors.Is(err, unix.ENOENT) && job.name != "." {
			return nil, fmt.Errorf("opening /%s: it vanished while it was read; run this again when nothing changes the directory", job.name)
		}
		return nil, fmt.Errorf("opening /%s: %w", job.name, err)
	}
	defer unix.Close(fd)
	r.names = r.names[:0]
	for {
		n, err := ignoringEINTR(func() (int, error) { return unix.Getdents(fd, r.buffer) })
		if err != nil {
			return nil, fmt.Errorf("listing /%s: %w", job.name, err)
		}
		if n == 0 {
			break
		}
		_, _, r.names = unix.ParseDirent(r.buffer[:n], -1, r.names)
	}
	if len(r.names) == 0 {
		return nil, nil
	}
	job.node.children = make(map[string]*Node, len(r.names))
	var found []scanJob
	for _, base := range r.names {
		name := base
		if job.name != "." {
			name = job.name + "/" + base
		}
		node, descend, err := r.entry(fd, base, name)
		if err != nil {
			return nil, err
		}
		if node == nil {
			continue
		}
		job.node.children[base] = node
		if descend {
			found = append(found, scanJob{name, node})
		}
	}
	return found, nil
}

// statxMask asks for what stat(2) gives.
const statxMask = unix.STATX_BASIC_STATS

// entry reads one entry of a directory; nil if it is left out. It says whether it is a directory to go into.
func (r *dirReader) entry(dirFD int, base, name string) (node *Node, descend bool, err error) {
	var st unix.Statx_t
	err = unix.Statx(dirFD, base, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statxMask, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil, false, nil // removed since the directory was listed
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading the attributes of /%s: %w", name, err)
	}
	isDir := uint32(st.Mode)&TypeMask == TypeDir
	if r.exclude.Match(name, isDir) {
		return nil, false, nil
	}
	mounted := r.isMount(&st)
	switch {
	case uint32(st.Mode)&TypeMask == unix.S_IFSOCK:
		r.note(name, "left out: a socket belongs to a running program")
		return nil, false, nil
	case mounted && r.opts.OneFileSystem && !isDir:
		r.note(name, "left out: it is mounted there from elsewhere")
		return nil, false, nil
	}
	linked := !isDir && st.Nlink > 1
	key := inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
	if linked {
		r.mu.Lock()
		node = r.links[key]
		r.mu.Unlock()
		if node != nil {
			return node, false, nil
		}
	}
	if node, err = r.node(name, dirFD, base, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			err = nil // likewise
		}
		return nil, false, err
	}
	if linked {
		r.mu.Lock()
		if first := r.links[key]; first != nil {
			node = first
		} else {
			r.links[key] = node
		}
		r.mu.Unlock()
	}
	descend = isDir && !(mounted && r.opts.OneFileSystem) && (r.opts.KeepVolatile || !slices.Contains(volatile[:], name))
	return node, descend, nil
}

// isMount reports whether something is mounted on an entry. Device numbers alone tell that only where the kernel does not say it: files of an overlay
// have those of its layers, and btrfs subvolumes have their own.
func (s *scanner) isMount(st *unix.Statx_t) bool {
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	return uint32(st.Mode)&TypeMask == TypeDir && unix.Mkdev(st.Dev_major, st.Dev_minor) != s.rootDev
}

// node makes the node of an entry that lies in the directory dirFD under the name base.
func (s *scanner) node(name string, dirFD int, base string, st *unix.Statx_t) (*Node, error) {
	n := &Node{
		Mode: uint32(st.Mode), UID: st.Uid, GID: st.Gid,
		MTime: Timespec{st.Mtime.Sec, st.Mtime.Nsec},
	}
	id := HostID{
		Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino,
		CTime: Timespec{st.Ctime.Sec, st.Ctime.Nsec}, MTime: n.MTime, Size: int64(st.Size),
	}
	var err error
	switch n.Type() {
	case TypeRegular:
		n.Size = int64(st.Size)
		file := &hostFile{root: s.root, name: name, id: id}
		if !s.racy(id.CTime) {
			n.Host = &file.id
		}
		if n.Size > 0 {
			n.Content = file
			if int64(st.Blocks)*512 < n.Size {
				n.Data, err = file.extents()
				file.data = n.Data
			}
			if n.Data != nil && len(n.Data) == 0 {
				n.Content = nil
			}
		}
	case TypeSymlink:
		n.Target, err = readlinkat(dirFD, base, int(st.Size))
	case TypeChar, TypeBlock:
		n.Major, n.Minor = st.Rdev_major, st.Rdev_minor
	}
	if err != nil {
		return nil, fmt.Errorf("reading /%s: %w", name, err)
	}
	if n.Xattrs, err = s.root.xattrs(dirFD, base); err != nil {
		return nil, fmt.Errorf("reading the extended attributes of /%s: %w", name, err)
	}
	return n, nil
}

// racy reports whether a file was changed so shortly before it was found that one more change might leave its times as they are. The clock of
// file systems goes in steps of up to 10 ms, or of 2 s where they keep no fraction.
func (s *scanner) racy(ctime Timespec) bool {
	step := 20 * time.Millisecond
	if ctime.Nsec == 0 {
		step = 2 * time.Second
	}
	return ctime.Time().Add(step).After(s.start)
}

func readlinkat(dirFD int, base string, size int) (string, error) {
	for room := max(size+1, 64); ; room *= 2 {
		b := make([]byte, room)
		n, err := unix.Readlinkat(dirFD, base, b)
		if err != nil || n < room {
			return string(b[:max(n, 0)]), err
		}
	}
}

// Excludes are patterns of names to leave out.
//
// A pattern with a slash at its beginning or inside is matched against the whole path below the root, any other one against the last component of each
// name. "*" stands for any characters but a slash, "**" for any characters, "?" for one character that is not a slash, and "[a-z]" for one of a
// set. A slash at the end restricts the pattern to directories. What is below an excluded directory is left out with it.
type Excludes []excludePattern

type excludePattern struct {
	glob    string
	whole   bool // match the whole path
	onlyDir bool
}

// ParseExcludes reads patterns.
func ParseExcludes(patterns []string) (Excludes, error) {
	var list Excludes
	for _, text := range patterns {
		glob := strings.TrimSuffix(text, "/")
		p := excludePattern{onlyDir: glob != text}
		if below, ok := strings.CutPrefix(glob, "./"); ok {
			glob = "/" + below
		}
		p.whole = strings.Contains(glob, "/")
		p.glob = strings.TrimPrefix(glob, "/")
		if p.glob == "" {
			return nil, fmt.Errorf("the pattern %q to exclude matches nothing but the root", text)
		}
		if _, err := path.Match(strings.ReplaceAll(p.glob, "**", "*"), ""); err != nil {
			return nil, fmt.Errorf("the pattern %q to exclude is malformed: %w", text, err)
		}
		list = append(list, p)
	}
	return list, nil
}

// Match reports whether the name, in the form that trees use, is to be left out.
func (e Excludes) Match(name string, isDir bool) bool {
	for _, p := range e {
		if p.onlyDir && !isDir {
			continue
		}
		subject := name
		if !p.whole {
			subject = path.Base(name)
		}
		if globMatch(p.glob, subject) {
			return true
		}
	}
	return false
}

// globMatch is path.Match with "**".
func globMatch(glob, name string) bool {
	before, after, deep := strings.Cut(glob, "**")
	if !deep {
		ok, _ := path.Match(glob, name) // malformed patterns were refused before
		return ok
	}
	for i := 0; i <= len(name); i++ {
		if ok, _ := path.Match(before, name[:i]); !ok {
			continue
		}
		for j := i; j <= len(name); j++ {
			if globMatch(after, name[j:]) {
				return true
			}
		}
	}
	return false
}
