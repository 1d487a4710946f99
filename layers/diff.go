package layers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// DifferenceKind says how an entry differs between two trees.
type DifferenceKind int

const (
	// Added is an entry that only the second tree has.
	Added DifferenceKind = iota
	// Removed is an entry that only the first tree has.
	Removed
	// Changed is an entry that both have in different forms.
	Changed
)

// String returns "added", "removed" or "changed".
func (k DifferenceKind) String() string {
	return [...]string{"added", "removed", "changed"}[k]
}

// Difference is one entry in which two trees differ.
type Difference struct {
	Path string // as trees use it
	Kind DifferenceKind
	What []string // of Changed: "type", "mode", "owner", "time", "size", "content", "target", "device", "xattrs", "hard links"
}

// String gives the difference as one line.
func (d Difference) String() string {
	if len(d.What) == 0 {
		return fmt.Sprintf("%s /%s", d.Kind, d.Path)
	}
	return fmt.Sprintf("%s /%s: %s", d.Kind, d.Path, strings.Join(d.What, ", "))
}

// Diff compares two trees entry by entry and returns in what they differ, sorted by path. Contents of files that differ in nothing else are read, except
// where they are known to be the same.
func Diff(ctx context.Context, a, b *Tree) ([]Difference, error) {
	c := newComparison(a, b)
	c.compare(".", a.root, b.root)
	differ, err := differentContents(ctx, c.doubtful)
	if err != nil {
		return nil, fmt.Errorf("comparing trees: %w", err)
	}
	for i := range c.found {
		if d := &c.found[i]; d.pair != (nodePair{}) && differ[d.pair] {
			d.What = append(d.What, "content")
		}
	}
	var list []Difference
	for _, d := range c.found {
		if d.Kind != Changed || len(d.What) > 0 {
			list = append(list, d.Difference)
		}
	}
	slices.SortFunc(list, func(x, y Difference) int { return strings.Compare(x.Path, y.Path) })
	return list, nil
}

// nodePair is two inodes that stand under the same name in two trees.
type nodePair struct{ a, b *Node }

// comparison walks two trees at once.
type comparison struct {
	linksA, linksB map[*Node][]string // names of inodes with several of them
	found          []foundDifference
	doubtful       map[nodePair]struct{} // files that differ in nothing but, perhaps, content
}

type foundDifference struct {
	Difference
	pair nodePair // if the content may differ
}

func newComparison(a, b *Tree) *comparison {
	return &comparison{linksA: hardLinks(a), linksB: hardLinks(b), doubtful: map[nodePair]struct{}{}}
}

// hardLinks returns the names of every inode that has several, sorted.
func hardLinks(t *Tree) map[*Node][]string {
	all := map[*Node][]string{}
	_ = t.Walk(func(name string, n *Node) error {
		if !n.IsDir() {
			all[n] = append(all[n], name)
		}
		return nil
	})
	for n, names := range all {
		if len(names) == 1 {
			delete(all, n)
		}
	}
	return all
}

func (c *comparison) compare(name string, a, b *Node) {
	if a == b && a.IsDir() {
		return
	}
	d := foundDifference{Difference: Difference{Path: name, Kind: Changed, What: attributeDifferences(a, b)}}
	if a.IsRegular() && b.IsRegular() && a.Size == b.Size && !sameFile(a, b) {
		d.pair = nodePair{a, b}
		c.doubtful[d.pair] = struct{}{}
	}
	if !slices.Equal(c.linksA[a], c.linksB[b]) {
		d.What = append(d.What, "hard links")
	}
	if len(d.What) > 0 || d.pair != (nodePair{}) {
		c.found = append(c.found, d)
	}
	for _, base := range a.Names() {
		sub := path.Join(name, base)
		if other := b.Child(base); other != nil {
			c.compare(sub, a.children[base], other)
		} else {
			c.all(sub, a.children[base], Removed)
		}
	}
	for _, base := range b.Names() {
		if a.Child(base) == nil {
			c.all(path.Join(name, base), b.children[base], Added)
		}
	}
}

func (c *comparison) all(name string, n *Node, kind DifferenceKind) {
	c.found = append(c.found, foundDifference{Difference: Difference{Path: name, Kind: kind}})
	for _, base := range n.Names() {
		c.all(path.Join(name, base), n.children[base], kind)
	}
}

// attributeDifferences names what differs between two inodes, content and hard links aside.
func attributeDifferences(a, b *Node) []string {
	if a.Type() != b.Type() {
		return []string{"type"}
	}
	var what []string
	for _, x := range []struct {
		name    string
		differs bool
	}{
		{"mode", a.Perm() != b.Perm()},
		{"owner", a.UID != b.UID || a.GID != b.GID},
		{"time", a.MTime != b.MTime},
		{"size", a.Size != b.Size},
		{"target", a.Target != b.Target},
		{"device", a.Major != b.Major || a.Minor != b.Minor},
		{"xattrs", !slices.Equal(a.Xattrs, b.Xattrs)},
	} {
		if x.differs {
			what = append(what, x.name)
		}
	}
	return what
}

// sameFile reports whether two files of the same size are known to have the same content without reading them.
func sameFile(a, b *Node) bool {
	if a == b || a.Content == nil && b.Content == nil {
		return true
	}
	if a.Host != nil && b.Host != nil && a.Host.sameState(b.Host) {
		return true
	}
	x, ok := a.Content.(*BlobContent)
	y, ok2 := b.Content.(*BlobContent)
	return ok && ok2 && sameBytes(x, y) && slices.Equal(a.Data, b.Data)
}

// differentContents reads pairs of files and returns those that differ. Contents that are cheap to open one by one are compared with what they are paired with
// while that is read in the order of its blob; where neither is, both are hashed.
func differentContents(ctx context.Context, pairs map[nodePair]struct{}) (map[nodePair]bool, error) {
	partners := map[*Node][]nodePair{}
	hashed := map[nodePair]bool{}
	var nodes []*Node
	for p := range pairs {
		lead := p.a
		if !cheapToOpen(p.b) {
			lead = p.b
		}
		switch {
		case !cheapToOpen(p.a) && !cheapToOpen(p.b):
			hashed[p] = true
			continue
		case partners[lead] == nil:
			nodes = append(nodes, lead)
		}
		partners[lead] = append(partners[lead], p)
	}
	differ := make(map[nodePair]bool, len(pairs))
	bufferA, bufferB := make([]byte, 256<<10), make([]byte, 256<<10)
	err := EachContent(ctx, nodes, func(n *Node, data io.Reader) error {
		for i, p := range partners[n] {
			if i > 0 {
				hashed[p] = true // rare: one file under a name of which the other tree has several
				continue
			}
			other := p.a
			if other == n {
				other = p.b
			}
			r, err := other.Open()
			if err != nil {
				return err
			}
			equal, err := equalStreams(expand(n, data), r, bufferA, bufferB)
			if closeErr := r.Close(); err == nil {
				err = closeErr
			}
			if err != nil {
				return err
			}
			differ[p] = !equal
		}
		return nil
	})
	if err != nil || len(hashed) == 0 {
		return differ, err
	}
	return differ, compareHashes(ctx, hashed, differ)
}

// cheapToOpen reports whether a file's content can be had without decompressing what lies beside it.
func cheapToOpen(n *Node) bool {
	c, ok := n.Content.(*BlobContent)
	return !ok || c.Source.Algorithm == None || c.Source.spooled() != nil
}

// expand puts the holes of a sparse file back into its data.
func expand(n *Node, data io.Reader) io.Reader {
	if n.Data == nil {
		return data
	}
	return &expandedReader{node: n, data: io.NopCloser(data), extents: n.Data}
}

// compareHashes compares files that can't be read side by side.
func compareHashes(ctx context.Context, pairs map[nodePair]bool, differ map[nodePair]bool) error {
	var nodes []*Node
	for p := range pairs {
		nodes = append(nodes, p.a, p.b)
	}
	sums := make(map[*Node][sha256.Size]byte, len(nodes))
	h := sha256.New()
	buffer := make([]byte, 256<<10)
	err := EachContent(ctx, nodes, func(n *Node, data io.Reader) error {
		h.Reset()
		_, err := io.CopyBuffer(struct{ io.Writer }{h}, expand(n, data), buffer)
		sums[n] = [sha256.Size]byte(h.Sum(nil))
		return err
	})
	for p := range pairs {
		differ[p] = sums[p.a] != sums[p.b]
	}
	return err
}

// equalStreams compares two streams.
func equalStreams(a, b io.Reader, bufferA, bufferB []byte) (bool, error) {
	for {
		n, errA := fill(a, bufferA)
		m, errB := fill(b, bufferB)
		if errA != nil && errA != io.EOF {
			return false, errA
		}
		if errB != nil && errB != io.EOF {
			return false, errB
		}
		if !bytes.Equal(bufferA[:n], bufferB[:m]) {
			return false, nil
		}
		if n < len(bufferA) {
			return true, nil
		}
	}
}
