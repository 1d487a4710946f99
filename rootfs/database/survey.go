package database

import (
	"bufio"
	"context"
	"crypto"
	_ "crypto/md5"  // the hash of dpkg, pacman and old rpm packages
	_ "crypto/sha1" // of apk
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	"github.com/imgbuild/imgbuild/layers"
)

// maxText bounds a file that is kept as a whole, in bytes.
const maxText = 64 << 20

// want is what is needed of the content of one regular file: its digests, or all of it.
type want struct {
	node   *layers.Node
	digest crypto.Hash // 0 is none
	text   bool
}

// Survey gathers what the reports need of a tree's contents while somebody else reads them anyway, such as a builder that writes them into a
// file system: [Survey.Observe] is told of each file. [Survey.Finish] reads the rest.
type Survey struct {
	database *Database

	mu   sync.Mutex
	open map[*layers.Node]*need // not read by anybody yet
	text map[*layers.Node][]byte
	sums map[*layers.Node][]sum
	work chan piece    // for the goroutine that counts sums
	done chan struct{} // closed when it has ended
	pool sync.Pool     // of the buffers of pieces
}

// need is what is wanted of one file.
type need struct {
	digests []crypto.Hash
	text    bool
}

// sum is a digest that was counted.
type sum struct {
	digest crypto.Hash
	value  string
}

// piece is some bytes of a file on their way to its sums.
type piece struct {
	node    *layers.Node
	digests []crypto.Hash
	data    []byte
	last    bool
}

// surveyBuffer is the length of the longest piece, surveyQueue how many may wait, so that memory stays below 4 MiB.
const (
	surveyBuffer = 256 << 10
	surveyQueue  = 12
)

// NewSurvey begins a survey of the database's tree. Finish must be called.
func (d *Database) NewSurvey() (*Survey, error) {
	s := &Survey{
		database: d, open: map[*layers.Node]*need{}, text: map[*layers.Node][]byte{}, sums: map[*layers.Node][]sum{}, work: make(chan piece, surveyQueue), done: make(chan struct{}),
	}
	s.pool.New = func() any { return make([]byte, surveyBuffer) }
	var tooLong error
	err := d.reader.wants(func(w want) {
		if w.text && w.node.Size > maxText {
			tooLong = fmt.Errorf("reading what a package says of itself: a file has %d bytes, more than the %d allowed", w.node.Size, maxText)
		}
		s.ask(w)
	})
	if err == nil {
		err = tooLong
	}
	if err != nil {
		return nil, err
	}
	go s.count()
	return s, nil
}

// ask notes what is wanted of a file. What is known of an empty one is known at once.
func (s *Survey) ask(w want) {
	if w.node.Size == 0 {
		if w.digest != 0 && s.sum(w.node, w.digest) == "" {
			s.sums[w.node] = append(s.sums[w.node], sum{w.digest, string(w.digest.New().Sum(nil))})
		}
		return
	}
	n := s.open[w.node]
	if n == nil {
		n = &need{}
		s.open[w.node] = n
	}
	n.text = n.text || w.text
	if w.digest != 0 && !slices.Contains(n.digests, w.digest) {
		n.digests = append(n.digests, w.digest)
	}
}

// sum returns the digest of a file, "" if it was not asked for.
func (s *Survey) sum(node *layers.Node, digest crypto.Hash) string {
	for _, one := range s.sums[node] {
		if one.digest == digest {
			return one.value
		}
	}
	return ""
}

// hexSum is sum in hexadecimal.
func (s *Survey) hexSum(node *layers.Node, digest crypto.Hash) string {
	return hex.EncodeToString([]byte(s.sum(node, digest)))
}

// count takes the pieces of one file after the other.
func (s *Survey) count() {
	defer close(s.done)
	var hashes []hash.Hash
	for p := range s.work {
		if hashes == nil {
			for _, digest := range p.digests {
				hashes = append(hashes, digest.New())
			}
		}
		for _, h := range hashes {
			h.Write(p.data)
		}
		s.pool.Put(p.data[:cap(p.data)])
		if !p.last {
			continue
		}
		s.mu.Lock()
		for i, h := range hashes {
			s.sums[p.node] = append(s.sums[p.node], sum{p.digests[i], string(h.Sum(nil))})
		}
		s.mu.Unlock()
		hashes = nil
	}
}

// Observe returns where to write the content of a file that is being read, or nil if nobody wants it. Files are to be observed one after the other,
// each with all of its bytes.
func (s *Survey) Observe(n *layers.Node) io.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := s.open[n]
	if wanted == nil || n.Data != nil {
		return nil
	}
	return &observation{survey: s, node: n, need: *wanted, left: n.Size}
}

// observation takes the content of one file.
type observation struct {
	survey *Survey
	node   *layers.Node
	need   need
	left   int64
	text   []byte
}

func (o *observation) Write(p []byte) (int, error) {
	s := o.survey
	written := len(p)
	if o.need.text {
		o.text = append(o.text, p...)
	}
	if o.need.digests == nil {
		o.left -= int64(len(p))
		p = nil
	}
	for len(p) > 0 {
		buffer, _ := s.pool.Get().([]byte) // New makes nothing else
		n := copy(buffer, p)
		p = p[n:]
		o.left -= int64(n)
		s.work <- piece{o.node, o.need.digests, buffer[:n], o.left == 0}
	}
	if o.left == 0 {
		s.mu.Lock()
		delete(s.open, o.node)
		if o.need.text {
			s.text[o.node] = o.text
		}
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
	_, err = io.Copy(&observation{survey: s, node: node, need: *s.open[node], left: node.Size}, content)
	return err
}

// WriteChanges writes for each package its name, a bar, and its change log, which is empty for a package that has none in the tree.
// The survey must be finished.
func (s *Survey) WriteChanges(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriter(w)
	for i, p := range s.database.Installed() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		text, err := s.database.reader.changelog(s, i)
		if err != nil {
			return fmt.Errorf("reading the change log of package %s: %w", p.Name, err)
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			text = append(text, '\n')
		}
		fmt.Fprintf(out, "%s|\n%s", p.Name, text)
	}
	return out.Flush()
}

// WriteVerified compares the tree's files with what the packages say of them, and writes a line for each that differs or is missing, in the form
// of "rpm --verify" and "dpkg --verify". The survey must be finished.
func (s *Survey) WriteVerified(w io.Writer) error {
	out := bufio.NewWriter(w)
	tree := newOwners(s.database.tree)
	for i, p := range s.database.Installed() {
		claims, err := s.database.reader.claims(s, i)
		if err != nil {
			return fmt.Errorf("verifying package %s: %w", p.Name, err)
		}
		for _, c := range claims {
			if line := s.verify(c, tree); line != "" {
				fmt.Fprintln(out, line)
			}
		}
	}
	return out.Flush()
}
