package database

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto"
	_ "crypto/md5"  // the hash of dpkg, pacman and old rpm packages
	_ "crypto/sha1" // of apk
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/imgbuild/imgbuild/internal/gunzip"
	"github.com/imgbuild/imgbuild/internal/sums"
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
	findings *Findings
	counter  *sums.Counter

	mu    sync.Mutex
	needs map[*layers.Node]*need // of files with content
	begun []*observation
	text  map[*layers.Node][]byte
	sums  map[*layers.Node][]sum

	zip    *gunzip.Reader // nil until something was unpacked
	unzips bytes.Buffer
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

// NewSurvey begins a survey of the database's tree. What was found out of the same contents for another tree is taken from the findings, which may be nil. Finish must be called.
func (d *Database) NewSurvey(findings *Findings) (*Survey, error) {
	if findings == nil {
		findings = &Findings{}
	}
	s := &Survey{database: d, findings: findings, needs: map[*layers.Node]*need{}, text: map[*layers.Node][]byte{}, sums: map[*layers.Node][]sum{}}
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
	s.counter = sums.New()
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
	n := s.needs[w.node]
	if n == nil {
		n = &need{}
		s.needs[w.node] = n
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

// Observe returns where to write the content of a file that is being read, or nil if nobody wants it. Several files may be observed at once. Of a file with holes nothing is wanted,
// as its data alone does not tell where they are, nor of those that [Survey.ReadLarge] reads.
func (s *Survey) Observe(n *layers.Node) io.Writer {
	if n.Data != nil || isLarge(n) {
		return nil
	}
	if o := s.observe(n); o != nil { // an interface must not hold a nil pointer
		return o
	}
	return nil
}

// observe begins to observe a file, unless nobody wants it, or somebody has begun already.
func (s *Survey) observe(n *layers.Node) *observation {
	wanted := s.needs[n]
	if wanted == nil {
		return nil
	}
	f := s.findings.begin(n, wanted)
	if f == nil {
		return nil
	}
	o := &observation{finding: f, text: wanted.text, left: n.Size}
	o.open.Store(1)
	if wanted.text {
		f.text = make([]byte, 0, n.Size) // which is at most maxText
	}
	if wanted.digests != nil {
		o.open.Add(1)
		o.file = s.counter.File(n.Size, wanted.digests, func(values []string) {
			for i, digest := range wanted.digests {
				f.sums = append(f.sums, sum{digest, values[i]})
			}
			o.close()
		})
	}
	s.mu.Lock()
	s.begun = append(s.begun, o)
	s.mu.Unlock()
	return o
}

// Files of at least large bytes that lie in files of this machine are read by the survey itself, besides the one who observes, sideBySide at a time: reading them once
// more costs less than counting the digest of one file alone.
const (
	large      = 1 << 20
	sideBySide = 16
	turn       = 256 << 10 // bytes of one of them, before it is the next one's turn
)

// isLarge reports whether the survey reads a file itself.
func isLarge(n *layers.Node) bool {
	_, inBlob := n.Content.(*layers.BlobContent)
	return n.Size >= large && n.Data == nil && n.Content != nil && !inBlob
}

// ReadLarge reads large files of this machine. It may run while others are observed.
func (s *Survey) ReadLarge(ctx context.Context) error {
	var nodes []*layers.Node
	for n := range s.needs {
		if isLarge(n) {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *layers.Node) int { return cmp.Compare(b.Size, a.Size) })
	var open []*reading
	defer func() {
		for _, r := range open {
			r.content.Close()
		}
	}()
	for at := 0; ; at++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for len(open) < sideBySide && len(nodes) > 0 {
			o := s.observe(nodes[0])
			if o != nil {
				content, err := nodes[0].Open()
				if err != nil {
					return err
				}
				open = append(open, &reading{content, o})
			}
			nodes = nodes[1:]
		}
		if len(open) == 0 {
			return nil
		}
		at %= len(open)
		if more, err := open[at].turn(); err != nil {
			return err
		} else if more {
			continue
		}
		err := open[at].content.Close()
		if open = slices.Delete(open, at, at+1); err != nil {
			return err
		}
	}
}

// reading is a file that is being read with others.
type reading struct {
	content io.ReadCloser
	to      *observation
}

// turn reads some of the file. It reports whether there is more.
func (r *reading) turn() (bool, error) {
	n := min(turn, r.to.left)
	if read, err := io.Copy(r.to, io.LimitReader(r.content, n)); err != nil {
		return false, err
	} else if read < n {
		return false, errShort(r.to.left)
	}
	return r.to.left > 0, nil
}

func errShort(missing int64) error {
	return fmt.Errorf("reading a file of the root tree: it has %d bytes less than its entry says: %w", missing, io.ErrUnexpectedEOF)
}

// Finish reads what has not been observed and waits until everything is counted.
func (s *Survey) Finish(ctx context.Context) error {
	for {
		s.giveUp()
		err := s.readRest(ctx)
		s.counter.Close()
		s.giveUp()
		if err == nil {
			err = s.collect(ctx)
		}
		if err != nil || len(s.needs) == 0 {
			return err
		}
		s.counter = sums.New() // for what another survey has given up
	}
}

// giveUp ends observations of files that were not read to their end.
func (s *Survey) giveUp() {
	for _, o := range s.begun {
		if o.left > 0 {
			o.giveUp(s.findings)
		}
	}
	s.begun = nil
}

// readRest reads what nobody has begun to read.
func (s *Survey) readRest(ctx context.Context) error {
	if err := s.ReadLarge(ctx); err != nil {
		return err
	}
	var plain []*layers.Node
	for node, wanted := range s.needs {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.findings.has(node, wanted):
		case node.Data == nil && node.Content != nil:
			plain = append(plain, node)
		default:
			if err := s.readSparse(node); err != nil {
				return err
			}
		}
	}
	return layers.EachContent(ctx, plain, s.read)
}

// readSparse reads a file with holes, zeros included.
func (s *Survey) readSparse(node *layers.Node) error {
	content, err := node.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	return s.read(node, content)
}

// read reads the content of a file, unless somebody does already.
func (s *Survey) read(node *layers.Node, content io.Reader) error {
	o := s.observe(node)
	if o == nil {
		return nil
	}
	_, err := io.Copy(o, content)
	if err == nil && o.left > 0 {
		err = errShort(o.left)
	}
	return err
}

// collect waits for what is found out of the files, and leaves those in needs that were given up.
func (s *Survey) collect(ctx context.Context) error {
	for node, wanted := range s.needs {
		f, err := s.findings.wait(ctx, node, wanted)
		if err != nil {
			return err
		}
		if f == nil {
			continue
		}
		s.sums[node] = f.sums
		if wanted.text {
			s.text[node] = f.text
		}
		delete(s.needs, node)
	}
	return nil
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

// unpack decompresses a gzip file of bounded length. The text is valid until the next call.
func (s *Survey) unpack(data []byte) ([]byte, error) {
	var err error
	if s.zip == nil {
		s.zip, err = gunzip.NewReader(bytes.NewReader(data))
	} else {
		err = s.zip.Reset(bytes.NewReader(data))
	}
	if err != nil {
		return nil, err
	}
	s.unzips.Reset()
	_, err = io.Copy(&s.unzips, io.LimitReader(s.zip, maxText))
	return s.unzips.Bytes(), err
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
