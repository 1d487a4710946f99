package dpkg

import (
	"context"
	"crypto/md5"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/imgbuild/imgbuild/layers"
)

// Survey gathers what the reports need of a tree's contents while somebody else reads them anyway, such as a builder that writes them into a
// file system: [Survey.Observe] is told of each file. [Survey.Finish] reads the rest.
type Survey struct {
	tree     *layers.Tree
	packages []Package

	mu   sync.Mutex
	open map[*layers.Node]bool           // not read by anybody yet
	keep map[*layers.Node]bool           // whose bytes are wanted and not their sum alone
	text map[*layers.Node][]byte         // of those
	sums map[*layers.Node][md5.Size]byte // of all
	work chan piece                      // for the goroutine that counts sums
	done chan struct{}                   // closed when it has ended
	pool sync.Pool                       // of the buffers of pieces
}

// piece is some bytes of a file on their way to its sum.
type piece struct {
	node *layers.Node
	data []byte
	last bool
}

// surveyBuffer is the length of the longest piece, surveyQueue how many may wait, so that memory stays below 4 MiB.
const (
	surveyBuffer = 256 << 10
	surveyQueue  = 12
)

// NewSurvey begins a survey of the tree in which these packages are installed. Finish must be called.
func NewSurvey(tree *layers.Tree, packages []Package) (*Survey, error) {
	s := &Survey{tree: tree, packages: packages, open: map[*layers.Node]bool{}, keep: map[*layers.Node]bool{}, text: map[*layers.Node][]byte{},
		sums: map[*layers.Node][md5.Size]byte{}, work: make(chan piece, surveyQueue), done: make(chan struct{})}
	s.pool.New = func() any { return make([]byte, surveyBuffer) }
	for _, p := range packages {
		for _, names := range [][]string{changelogNames(p), sumNames(p)} {
			if _, node := firstFile(tree, names); node != nil {
				if node.Size > maxInfo {
					return nil, fmt.Errorf("reading what package %s says of itself: a file has %d bytes, more than the %d allowed", p.Name, node.Size, maxInfo)
				}
				s.keep[node] = true
			}
		}
	}
	err := tree.Walk(func(_ string, n *layers.Node) error {
		switch {
		case !n.IsRegular():
		case n.Size == 0:
			s.sums[n], s.text[n] = md5.Sum(nil), nil
		default:
			s.open[n] = true
		}
		return nil
	})
	go s.count()
	return s, err
}

// firstFile returns the first of the names that is a regular file of the tree, and the file; nil if none is.
func firstFile(tree *layers.Tree, names []string) (string, *layers.Node) {
	for _, name := range names {
		if _, node, err := tree.Resolve(name); err == nil && node.IsRegular() {
			return name, node
		}
	}
	return "", nil
}

// count takes the pieces of one file after the other.
func (s *Survey) count() {
	defer close(s.done)
	var h hash.Hash
	for p := range s.work {
		if h == nil {
			h = md5.New()
		}
		h.Write(p.data)
		s.pool.Put(p.data[:cap(p.data)])
		if p.last {
			s.mu.Lock()
			s.sums[p.node] = [md5.Size]byte(h.Sum(nil))
			s.mu.Unlock()
			h = nil
		}
	}
}

// Observe returns where to write the content of a file that is being read, or nil if nobody wants it. Files are to be observed one after the other,
// each with all of its bytes.
func (s *Survey) Observe(n *layers.Node) io.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open[n] || n.Data != nil {
		return nil
	}
	return &observation{survey: s, node: n, left: n.Size}
}

// observation takes the content of one file.
type observation struct {
	survey *Survey
	node   *layers.Node
	left   int64
	text   []byte
}

func (o *observation) Write(p []byte) (int, error) {
	s := o.survey
	written := len(p)
	if s.keep[o.node] {
		o.text = append(o.text, p...)
	}
	for len(p) > 0 {
		buffer, _ := s.pool.Get().([]byte) // New makes nothing else
		n := copy(buffer, p)
		p = p[n:]
		o.left -= int64(n)
		s.work <- piece{o.node, buffer[:n], o.left == 0}
	}
	if o.left == 0 {
		s.mu.Lock()
		delete(s.open, o.node)
		s.text[o.node] = o.text
		s.mu.Unlock()
	}
	return written, nil
}

// Finish reads what has not been observed and waits until everything is counted.
func (s *Survey) Finish(ctx context.Context) error {
	defer func() {
		close(s.work)
		<-s.done
	}()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var rest []*layers.Node
	for node := range s.open {
		if node.Data == nil && node.Content != nil {
			rest = append(rest, node)
			continue
		}
		if err := s.readSparse(node); err != nil {
			return err
		}
	}
	return layers.EachContent(ctx, rest, func(n *layers.Node, data io.Reader) error {
		_, err := io.Copy(s.Observe(n), data)
		return err
	})
}

// readSparse reads a file with holes, zeros included.
func (s *Survey) readSparse(node *layers.Node) error {
	content, err := node.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = io.Copy(&observation{survey: s, node: node, left: node.Size}, content)
	return err
}
