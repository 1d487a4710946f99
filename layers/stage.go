package layers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/lockeddir"
)

// Stage is a hidden directory beside a directory that is to be written. [ReadLayer] writes the files of layers into it as soon as their bytes have been
// decompressed, and [WriteDir] moves them from there to where they belong, so that each byte is written once. Only the owner can look into it, so what
// lies there may be a stranger's that nobody has checked yet.
//
// It is locked as long as its process lives. NewStage removes those of dead ones.
type Stage struct {
	dir *lockeddir.Dir

	mu   sync.Mutex
	subs int // directories in it, one for each layer
	open []*os.File
}

// stageMark is between the name of the directory that is to be written and the random end of a stage's name.
const stageMark = ".imgbuild-"

// NewStage makes a stage for the directory dir, which must not exist yet. The caller closes it when the tree has been written and is not
// read any longer.
func NewStage(dir string) (*Stage, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("making a stage for %s: %w", dir, os.ErrExist)
	}
	prefix := "." + filepath.Base(dir) + stageMark
	_ = lockeddir.RemoveStale(filepath.Dir(dir), prefix) // what can't be removed is no reason to stop
	made, err := lockeddir.Make(filepath.Dir(dir), prefix)
	if err != nil {
		return nil, fmt.Errorf("making a stage for %s: %w", dir, err)
	}
	if err := openUp(int(made.Fd())); err != nil {
		return nil, errors.Join(fmt.Errorf("making a stage for %s: %w", dir, err), made.Remove())
	}
	return &Stage{dir: made}, nil
}

// Close removes the stage with what is still in it. Contents that lay there are decompressed again if they are read after that.
func (s *Stage) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == nil {
		return nil
	}
	for _, f := range s.open {
		f.Close()
	}
	err := s.dir.Remove()
	s.dir, s.open = nil, nil
	if err != nil {
		return fmt.Errorf("removing what was staged: %w", err)
	}
	return nil
}

// sub makes a directory for one layer.
func (s *Stage) sub() (*stagedLayer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == nil {
		return nil, fmt.Errorf("staging a layer: %w", os.ErrClosed)
	}
	name := filepath.Join(s.dir.Name(), strconv.Itoa(s.subs))
	s.subs++
	if err := os.Mkdir(name, 0o700); err != nil {
		return nil, fmt.Errorf("staging a layer: %w", err)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("staging a layer: %w", err)
	}
	s.open = append(s.open, f)
	if err := openUp(int(f.Fd())); err != nil {
		return nil, fmt.Errorf("staging a layer: %w", err)
	}
	return &stagedLayer{dir: f, files: map[int64]*stagedFile{}}, nil
}

// stagedLayer is the files of one layer in a stage.
type stagedLayer struct {
	dir *os.File

	mu    sync.Mutex
	files map[int64]*stagedFile // by the offset of their content in the tar; those that were moved away are not in it
	made  int
}

// stagedFile is a file of the layer, under a name in the layer's directory.
type stagedFile struct {
	name   string
	node   *Node    // whose data and metadata the file has
	unheld []Unheld // what it lacks of the metadata
}

// add writes the file of a tar entry, whose data comes next in the tar, with the metadata of its node.
func (l *stagedLayer) add(w *dirWriter, source *BlobSource, tar *tarReader, n *Node, h *foundEntry) error {
	if err := tar.check(h.offset + h.size); err != nil {
		return err
	}
	file := &stagedFile{name: strconv.Itoa(l.made), node: n}
	l.made++
	content := contentReader{source: source, in: tar.in, runs: []Extent{{h.offset, h.size}}}
	var data io.Reader = &content
	if h.dense {
		content.runs = runsAt(h.offset, h.data)
		data = &denseReader{&content, tar, h.offset + h.size}
		if err := tar.checkZeros(h.offset, content.runs[0].Offset); err != nil {
			return err
		}
	}
	w.report.Unheld = nil
	if err := w.writeFile(int(l.dir.Fd()), file.name, file.name, n, data); err != nil {
		if tar.in.err == io.EOF {
			return errFormat("it breaks off in the data of an entry")
		}
		return fmt.Errorf("writing a file of layer %s: %w", source.Digest, err)
	}
	file.unheld = w.report.Unheld
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files[h.offset] = file
	return nil
}

// denseReader reads the data of a sparse file whose holes are in the tar, and checks that they are zeros.
type denseReader struct {
	data *contentReader
	tar  *tarReader
	end  int64 // of the file in the tar
}

// Read implements io.Reader.
func (r *denseReader) Read(p []byte) (int, error) {
	n, err := r.data.Read(p)
	if len(r.data.runs) == 0 || r.data.runs[0].Length > 0 || err != nil {
		return n, err
	}
	next := r.end
	if len(r.data.runs) > 1 {
		next = r.data.runs[1].Offset
	}
	return n, r.tar.checkZeros(r.tar.in.pos, next)
}

// has reports whether a content can be read from the stage.
func (l *stagedLayer) has(c *BlobContent) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.files[c.Offset] != nil
}

// read opens a content for reading; nil if it is not in the stage any longer.
func (l *stagedLayer) read(c *BlobContent) io.ReadCloser {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	file := l.files[c.Offset]
	if file == nil {
		return nil
	}
	fd, err := unix.Openat(int(l.dir.Fd()), file.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), file.name)
	runs := file.node.Data
	if runs == nil {
		runs = []Extent{{0, c.Length}}
	}
	return readCloser{&plainReader{source: c.Source, from: f, runs: slices.Clone(runs)}, f}
}

type readCloser struct {
	io.Reader
	io.Closer
}

// moveStaged moves the file with the content of n from the stage to its place; false if it is not there, or the place is on another file system.
func (w *dirWriter) moveStaged(parent int, base, name string, n *Node) (bool, error) {
	c, ok := n.Content.(*BlobContent)
	if !ok || c.Source.staged == nil {
		return false, nil
	}
	l := c.Source.staged
	l.mu.Lock()
	defer l.mu.Unlock()
	file := l.files[c.Offset]
	if file == nil || file.node.Size != n.Size || !slices.Equal(file.node.Data, n.Data) {
		return false, nil
	}
	if unix.Renameat(int(l.dir.Fd()), file.name, parent, base) != nil {
		return false, nil // it is written anew, and any other trouble will show then
	}
	delete(l.files, c.Offset)
	w.progress(n.DataSize())
	if file.node == n {
		for _, u := range file.unheld {
			u.Path = name
			w.report.Unheld = append(w.report.Unheld, u)
		}
		return true, nil
	}
	return true, w.alter(namedNode{name, n})
}
